"""The version of this qtctl."""

VERSION = "0.1.0"
