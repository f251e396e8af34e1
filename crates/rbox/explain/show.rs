//! What turns events into what people read.

use crate::explain::event::Event;

/// Shows events as they come.
pub(crate) trait Show {
    /// What is printed for the next one.
    fn event(&mut self, event: &Event) -> String;
    /// What is printed when all is told.
    fn end(&mut self) -> String;
}
