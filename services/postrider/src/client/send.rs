//! `postrider send`: submits one message.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use api::v1::submit_request::Content;
use api::v1::{Attachment, Class, HeaderField, MessageParts, SubmitRequest, SubmitResponse};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::api_client::{ApiClient, report};
use super::args::{Output, ServerArgs};

/// What a message is to its reader.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ClassArg {
    /// Somebody waits for it.
    Transactional,
    /// Nobody waits for it.
    Bulk,
}

/// Flags of `send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Sender: "ann@example.com" or "Ann <ann@example.com>".
    #[arg(long, required_unless_present = "raw")]
    from: Option<String>,

    /// Recipient; repeat it for more. Each gets a copy addressed to it alone.
    #[arg(long, required = true, value_name = "ADDRESS")]
    to: Vec<String>,

    /// Subject.
    #[arg(long, default_value = "", conflicts_with = "raw")]
    subject: String,

    /// Plain text.
    #[arg(long, conflicts_with = "raw")]
    text: Option<String>,

    /// HTML.
    #[arg(long, conflicts_with = "raw")]
    html: Option<String>,

    /// File to attach; repeat it for more.
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    attach: Vec<PathBuf>,

    /// Further header field, "Name: value"; repeat it for more.
    #[arg(long, value_name = "FIELD", conflicts_with = "raw")]
    header: Vec<String>,

    /// Where replies should go.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "raw")]
    reply_to: Option<String>,

    /// Whole message as RFC 5322 has it, from a file; "-" is standard input.
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,

    /// Envelope sender, where it is not the From address.
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,

    /// Which queue the message takes.
    #[arg(long, value_enum, default_value = "transactional")]
    class: ClassArg,

    /// Tag that comes back in every event, name=value; repeat it for more.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// Campaign that comes back in every event.
    #[arg(long)]
    campaign: Option<String>,

    /// Makes the call repeatable for 24 hours: the same key with the same message is sent once.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    /// Not to be sent before this time: 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    send_at: Option<jiff::Timestamp>,

    /// Only over verified TLS, to servers that promise the same (REQUIRETLS, RFC 8689); otherwise it bounces.
    #[arg(long)]
    require_tls: bool,

    /// How to print the answer.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// Submits, and prints the ids. Exit codes: 0 accepted, 2 refused, 75 not accepted now.
pub async fn run(args: &SendArgs) -> anyhow::Result<ExitCode> {
    let request = request(args)?;
    let client = ApiClient::new(&args.server)?;
    match client.submission().submit(request).await {
        Ok(response) => Ok(print(&response.into_inner(), args.output)),
        Err(status) => Ok(report(&args.server.server, &status)),
    }
}

fn request(args: &SendArgs) -> anyhow::Result<SubmitRequest> {
    let class = match args.class {
        ClassArg::Transactional => Class::Transactional,
        ClassArg::Bulk => Class::Bulk,
    };
    let content = match &args.raw {
        Some(file) => Content::Raw(read(file)?.into()),
        None => Content::Parts(parts(args)?),
    };
    let tag = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--tag {text:?} is not name=value"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    Ok(SubmitRequest {
        class: class.into(),
        sender: args.sender.clone().unwrap_or_default(),
        recipients: args.to.clone(),
        content: Some(content),
        lifetime_seconds: 0,
        tags: args.tag.iter().map(tag).collect::<anyhow::Result<_>>()?,
        campaign: args.campaign.clone().unwrap_or_default(),
        list: String::new(),
        idempotency_key: args.idempotency_key.clone().unwrap_or_default(),
        send_at: args.send_at.map(api::timestamp_to_wire),
        require_tls: args.require_tls,
    })
}

fn parts(args: &SendArgs) -> anyhow::Result<MessageParts> {
    let header = |field: &String| {
        let (name, value) = field
            .split_once(':')
            .with_context(|| format!("--header {field:?} is not Name: value"))?;
        Ok(HeaderField {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
        })
    };
    Ok(MessageParts {
        from: args.from.clone().unwrap_or_default(),
        reply_to: args.reply_to.clone().unwrap_or_default(),
        subject: args.subject.clone(),
        text: args.text.clone().unwrap_or_default(),
        html: args.html.clone().unwrap_or_default(),
        attachments: args
            .attach
            .iter()
            .map(|file| attachment(file))
            .collect::<anyhow::Result<_>>()?,
        headers: args
            .header
            .iter()
            .map(header)
            .collect::<anyhow::Result<_>>()?,
        ..MessageParts::default()
    })
}

fn attachment(file: &Path) -> anyhow::Result<Attachment> {
    let name = file
        .file_name()
        .with_context(|| format!("--attach {} is not a file", file.display()))?;
    Ok(Attachment {
        filename: name.to_string_lossy().into_owned(),
        content_type: String::new(),
        content: read(file)?.into(),
        content_id: String::new(),
    })
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;

    let mut content = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut content)
            .context("read the message from standard input")?;
        return Ok(content);
    }
    if !file.is_file() {
        bail!("{} is not a file", file.display());
    }
    std::fs::read(file).with_context(|| format!("read {}", file.display()))
}

fn print(response: &SubmitResponse, output: Output) -> ExitCode {
    let failed = response
        .recipients
        .iter()
        .any(|recipient| recipient.error.is_some());
    match output {
        Output::Json => println!("{}", to_json(response)),
        Output::Text => {
            let replayed = if response.replayed {
                "  (before, under the same idempotency key)"
            } else {
                ""
            };
            println!("accepted {}{replayed}", response.message_id);
            for recipient in &response.recipients {
                match &recipient.error {
                    None => println!("  {}  {}", recipient.job_id, recipient.recipient),
                    Some(error) => {
                        println!("  not accepted: {}: {}", recipient.recipient, error.detail)
                    }
                }
            }
        }
    }
    if failed {
        ExitCode::from(75)
    } else {
        ExitCode::SUCCESS
    }
}

fn to_json(response: &SubmitResponse) -> serde_json::Value {
    let recipients = response.recipients.iter().map(|recipient| match &recipient.error {
        None => json!({ "recipient": recipient.recipient, "job_id": recipient.job_id }),
        Some(error) => {
            json!({ "recipient": recipient.recipient, "error": { "reason": error.reason, "detail": error.detail } })
        }
    });
    json!({
        "message_id": response.message_id,
        "replayed": response.replayed,
        "recipients": recipients.collect::<Vec<_>>(),
    })
}
