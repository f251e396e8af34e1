def greet(): return "hello"
