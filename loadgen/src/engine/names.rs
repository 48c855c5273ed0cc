//! Names of users and rooms of a run. The salt keeps runs against the same server apart: rooms remember their messages, and the
//! server remembers client ids.

/// Lower 32 bits of a salt, in hexadecimal, are part of every name.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    salt: u32,
}

impl Names {
    pub fn new(salt: u64) -> Names {
        Names { salt: (salt ^ salt >> 32) as u32 }
    }

    /// Fixed width, so that messages of all users have the same length.
    pub fn user(&self, connection: u32) -> String {
        format!("u{:08x}-{connection:07}", self.salt)
    }

    pub fn room(&self, room: u32) -> String {
        format!("r{:08x}-{room:07}", self.salt)
    }
}
