//! docs/config.md is what the types say.

use crate::workspace::read;

#[test]
fn the_config_reference_is_the_types() -> anyhow::Result<()> {
    let written = read("docs/config.md")?;
    let generated = postrider::config::reference();
    let differs = written
        .lines()
        .zip(generated.lines())
        .find(|(written, generated)| written != generated);
    assert!(
        written == generated,
        "run `make config-reference`; first difference: {differs:#?}"
    );
    Ok(())
}
