module.exports = (text, n) => String(text).slice(0, n);
