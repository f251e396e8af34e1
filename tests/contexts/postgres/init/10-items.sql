CREATE TABLE items (id int PRIMARY KEY, what text);
INSERT INTO items VALUES (1, 'from sql');
