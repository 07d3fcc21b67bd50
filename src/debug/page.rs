//! The page, and what a browser lets it do.

pub(super) const HTML: &str = include_str!("page.html");

/// No source but this server; of scripts and styles only those of the page, which are named by their
/// hashes (a test compares). `style` attributes and what else might come in with a name are dead.
pub(super) const POLICY: &str = "default-src 'none'; \
     script-src 'sha256-Ocu3G1qToqxTdiql08FTV2+fvXwKoR90HlvnzuCdUsI='; \
     style-src 'sha256-+zo2B6l1DWF/dZAggwls6j02ZuojNAoJtuDRfdfBd28='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
        let mut out = String::new();
        for three in bytes.chunks(3) {
            let byte = |at| u32::from(three.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            let letters = [18, 12, 6, 0].map(|shift| letter(bits >> shift));
            out.extend(&letters[..=three.len()]);
            out.extend(std::iter::repeat_n('=', 3 - three.len()));
        }
        out
    }

    fn hash_of(tag: &str) -> String {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!(HTML.matches(&open).count(), 1);
        let (_, rest) = HTML.split_once(&open).unwrap();
        let (code, _) = rest.split_once(&close).unwrap();
        format!("'sha256-{}'", base64(&Sha256::digest(code)))
    }

    #[test]
    fn script_and_style_of_the_page_are_those_that_the_policy_names() {
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        for (directive, tag) in [("script-src", "script"), ("style-src", "style")] {
            let expected = format!("{directive} {};", hash_of(tag));
            assert!(POLICY.contains(&expected), "expected: {expected}");
        }
    }

    #[test]
    fn the_page_names_no_other_host_and_makes_no_html_of_text() {
        // A namespace is asked of nobody.
        let page = HTML.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http:",
            "https:",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "style=",
            "onclick=",
        ] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
