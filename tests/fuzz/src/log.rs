//! What the programs that carry the bytes write to their logs.

use std::sync::LazyLock;

use scistream::backend::{Catalog, Manifest};
use scistream::supervisor::{Verdict, trimmed};

static MANIFESTS: LazyLock<Vec<Manifest>> = LazyLock::new(|| {
    let catalog = Catalog::load(None).expect("the built-in backends load");
    catalog.all().map(|manifest| (**manifest).clone()).collect()
});

/// What a user is shown is one short line. An answer is made of whole lines, and
/// a refusal stays one whatever follows.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let shown = trimmed(&text);
    super::assert_one_line(&shown);
    assert!(shown.chars().count() <= 1500, "{} characters", shown.chars().count());
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    for manifest in &*MANIFESTS {
        let (confirmed, refused) = (&manifest.reload.confirmed, &manifest.reload.refused);
        let verdict = |text: &str| Verdict::of(text, confirmed, refused);
        let now = verdict(&text);
        assert_eq!(now, verdict(whole), "half a line changed the answer of {}", manifest.name);
        let later = verdict(&format!("{text}\n{whole}"));
        match now {
            Verdict::Refused => assert_eq!(later, Verdict::Refused),
            Verdict::Confirmed => assert_ne!(later, Verdict::Silent),
            Verdict::Silent => {}
        }
    }
}
