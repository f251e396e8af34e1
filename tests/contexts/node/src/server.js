const left = require('left-part');
require('http').createServer((_, answer) => answer.end(left('hello world', 5) + ' ' + process.env.NODE_ENV + ' ' + process.getuid() + '\n')).listen(3000);
