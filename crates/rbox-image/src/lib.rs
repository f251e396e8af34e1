//! Registry client, content store (an OCI image layout) and image configuration.
#![forbid(unsafe_code)]
