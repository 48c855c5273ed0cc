//! Who someone is: token verification against pinned keys, room tokens, resume tokens.
