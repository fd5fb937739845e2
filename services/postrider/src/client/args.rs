//! The flags that every client verb has.

use clap::{Args, ValueEnum};

/// Where a client verb finds the API.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The API's address.
    #[arg(
        long,
        env = "POSTRIDER_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    pub server: String,

    /// The API key.
    #[arg(
        long,
        env = "POSTRIDER_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub api_key: String,
}

/// How a client verb prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
