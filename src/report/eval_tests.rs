use super::*;
use crate::data::Records;

fn page(names: &[&str], test: &Records, keep: usize, logits: &[f32]) -> String {
    let mut manifest = Manifest::find("shapes").unwrap();
    manifest.classes = names.iter().map(|n| n.to_string()).collect();
    (manifest.height, manifest.width) = (2, 2);
    let mut assessment = Assessment::new(&manifest.classes, keep);
    assessment.add(&test.labels, logits);
    let record = EvalRecord { epoch: 0, step: 0, loss: 0.5, correct: 1, count: 2, top1: 50.0, top5: 100.0 };
    let facts = vec![("weights", "<b>&\"'.safetensors".to_string())];
    let page = Page { title: "net".into(), facts, manifest: &manifest, test, record: &record, assessment: &assessment };
    page.render().unwrap()
}

fn two() -> Records {
    Records { pixels: (0..24).collect(), labels: vec![0, 1], image_len: 12 }
}

#[test]
fn names_are_text_and_nothing_is_loaded() {
    let text = page(&["<script>alert(1)</script>", "b & c"], &two(), 5, &[1.0, 0.0, 3.0, 0.0]);
    assert!(!text.contains("<script") && text.contains("&lt;script&gt;") && text.contains("b &amp; c"), "{text}");
    assert!(text.contains("&lt;b&gt;&amp;&quot;'.safetensors"), "{text}");
    for outside in ["http:", "https:", "//", "url(", "@import", "<link", "<iframe"] {
        // The base64 of pictures may hold two slashes.
        let without = text.split("data:image/png;base64,").map(|p| p.split_once('"').map_or(p, |(_, rest)| rest));
        assert!(!without.skip(1).any(|p| p.contains(outside)), "{outside}");
        assert!(!text.split("data:image").next().unwrap_or_default().contains(outside), "{outside}");
    }
    assert!(text.contains("default-src 'none'"));
}

#[test]
fn pictures_are_the_images() {
    let text = page(&["a", "b"], &two(), 5, &[1.0, 0.0, 3.0, 0.0]);
    let uri = text.split("src=\"data:image/png;base64,").nth(1).unwrap().split('"').next().unwrap();
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(uri).unwrap();
    let pixels = image::load_from_memory(&bytes).unwrap().into_bytes();
    // Image 1, whose planes are 12…15, 16…19 and 20…23.
    assert_eq!(pixels, [12, 16, 20, 13, 17, 21, 14, 18, 22, 15, 19, 23]);
    assert!(text.contains("alt=\"test image 1: b, taken for a\""), "{text}");
}

#[test]
fn tables_say_what_was_counted() {
    let text = page(&["a", "b"], &two(), 0, &[1.0, 0.0, 3.0, 0.0]);
    for part in ["a taken for a: 1 of 1", "b taken for a: 1 of 1", "<b>b</b> taken for <b>a</b>: 1 of 1", "100.0 %"] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    assert!(text.contains("every image was recognized"));
}

#[test]
fn a_thousand_classes_have_no_matrix() {
    let names: Vec<_> = (0..1000).map(|k| format!("c{k}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let text = page(&names, &two(), 5, &vec![0.0; 2000]);
    assert!(!text.contains("Confusion matrix") && text.contains("Most frequent confusions"));
}
