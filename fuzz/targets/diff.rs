//! The diff that is published: read again it leads exactly from the files before to the files after, and reversed back.
#![no_main]

use executor::overlay::{Change, Origin};
use executor::patch::files::Kind;
use executor::tree::Image;
use fuzz::{Files, change, format, play};
use libfuzzer_sys::fuzz_target;
use protocol::path::RelativePath;

fuzz_target!(|bytes: &[u8]| {
    let Some((flags, rest)) = bytes.split_first() else { return };
    let mut parts = rest.split(|byte| *byte == 0xff);
    let mut image = |absent: u8, executes: u8| {
        let content = parts.next().unwrap_or_default();
        let bits = if flags & executes == 0 { 0o644 } else { 0o755 };
        (flags & absent == 0).then(|| Image { content: content.into(), bits })
    };
    let (one, two) = ((image(1, 2), image(4, 8)), (image(16, 32), image(0, 64)));
    let path = |text: &str| RelativePath::parse(text).unwrap();
    let mut changes = vec![
        Change { path: path("a b"), before: one.0, after: one.1, origin: None },
        Change { path: path("dir/ü"), before: two.0, after: two.1, origin: None },
    ];
    changes.retain(|change| match (&change.before, &change.after) {
        (Some(before), Some(after)) => !before.same_as(after),
        (None, None) => false,
        _ => true,
    });
    // One file went and another came: it may have moved.
    if let [from, to] = changes.as_mut_slice()
        && let (Some(image), None, None, true) = (&from.before, &from.after, &to.before, flags & 128 != 0)
    {
        to.origin = Some(Origin { path: from.path.clone(), image: image.clone(), gone: true });
    }
    let side = |side: fn(&Change) -> &Option<Image>| -> Files {
        let present = changes.iter().filter_map(|it| Some((it.path.to_string(), side(it).clone()?)));
        present.collect()
    };
    let (before, after) = (side(|it| &it.before), side(|it| &it.after));
    let text = executor::diff::render(&changes, format(rest));
    if changes.is_empty() {
        assert!(text.is_empty());
        return;
    }
    let parsed = executor::patch::parse::parse(text);
    assert_eq!(parsed.fault, None);
    let there = play(Kind::Published, &before, &parsed.diff).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(change(&there), change(&after));
    let back = parsed.diff.reversed().expect("every published diff has a way back");
    let back = play(Kind::Published, &there, &back).unwrap_or_else(|error| panic!("back: {error}"));
    assert_eq!(change(&back), change(&before));
});
