//! What the repository says about itself: the module structure and the documentation. Needs no server.

mod architecture;
mod documentation;
