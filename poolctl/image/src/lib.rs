//! Container images in the OCI format, written reproducibly and without Docker.
