//! Tools of the embedded image to try something with: a program that waits, one that serves a page, one that asks for it, one that uses
//! memory. The lessons of `rbox tour` are made of them.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rbox_engine::spec::Size;

/// How long a server is waited for, and a client.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most that is read of a request or an answer.
const MOST: u64 = 64 << 10;
/// Memory is used in such pieces, bytes.
const PIECE: usize = 1 << 20;

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_owned())
}

/// `sleep SECONDS`.
pub(super) fn sleep(words: &[String]) -> io::Result<()> {
    let seconds = words.first().and_then(|word| word.parse().ok());
    let time = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    std::thread::sleep(time.ok_or_else(|| wrong("a number of seconds is wanted"))?);
    Ok(())
}

/// `hostname [NAME]`: without a name it says what there is.
pub(super) fn hostname(words: &[String]) -> io::Result<()> {
    const NAME: &str = "/proc/sys/kernel/hostname";
    if let Some(name) = words.first() {
        return fs::write(NAME, name);
    }
    print!("{}", fs::read_to_string(NAME)?);
    Ok(())
}

/// `write FILE WORD…`: the words and an end of line, in a file that is made with its directory.
pub(super) fn write(words: &[String]) -> io::Result<()> {
    let Some((file, text)) = words.split_first() else { return Err(wrong("a file is wanted")) };
    if let Some(dir) = Path::new(file).parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(file, text.join(" ") + "\n")
}

/// `eat SIZE`: takes memory until it has so much, and writes to all of it, as the kernel gives none before.
pub(super) fn eat(words: &[String]) -> io::Result<()> {
    let size = words.first().and_then(|word| word.parse::<Size>().ok());
    let size = size.ok_or_else(|| wrong("a size is wanted: 200m"))?.bytes();
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut eaten = 0;
    while eaten < size {
        pieces.push(vec![1; PIECE]);
        eaten += PIECE as u64;
        if pieces.len().is_multiple_of(8) {
            println!("{} MiB", pieces.len());
        }
    }
    println!("{} MiB, and nobody minded", pieces.len());
    Ok(())
}

/// `serve PORT`: answers each request with who it is.
pub(super) fn serve(words: &[String]) -> io::Result<()> {
    let port: Option<u16> = words.first().and_then(|word| word.parse().ok());
    let port = port.ok_or_else(|| wrong("the number of a port is wanted"))?;
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("serves on port {port}");
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let page = format!("hello from {}\n", name.trim());
    for stream in listener.incoming() {
        // Whoever asks and goes away is no reason to end.
        let _ = stream.and_then(|stream| answer(stream, &page));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, page: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; 4096];
    let _ = stream.read(&mut request)?;
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    )
}

/// `get ADDRESS:PORT`: the page that is served there. The address in numbers: a static program has no resolver.
pub(super) fn get(words: &[String]) -> io::Result<()> {
    let address = words.first().map(|word| word.replace("localhost", "127.0.0.1"));
    let address: Option<SocketAddr> = address.and_then(|word| word.parse().ok());
    let address = address.ok_or_else(|| wrong("an address and a port are wanted: 127.0.0.1:8000"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.take(MOST).read_to_string(&mut text)?;
    let page = text.split_once("\r\n\r\n").map_or(text.as_str(), |(_, page)| page);
    print!("{}", crate::output::escape::text(page.trim_end()));
    println!();
    Ok(())
}
