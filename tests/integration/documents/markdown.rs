//! As much of Markdown as the documents use.

use std::collections::BTreeSet;

use regex::Regex;

/// A document, taken apart.
#[derive(Debug)]
pub struct Document {
    name: String,
    pub blocks: Vec<Block>,
    /// All lines that stand in no block.
    prose: Vec<String>,
}

/// A block between fences, or one that is indented, whose language is empty.
#[derive(Debug)]
pub struct Block {
    pub language: String,
    pub text: String,
}

impl Document {
    pub fn parse(name: &str, text: &str) -> Self {
        let mut document = Self { name: name.to_owned(), blocks: Vec::new(), prose: Vec::new() };
        let mut lines = text.lines().peekable();
        let mut blank = true;
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let mut block = String::new();
                loop {
                    match lines.next().unwrap_or_else(|| panic!("{name}: a fence is not closed")) {
                        "```" => break,
                        line => block += &format!("{line}\n"),
                    }
                }
                assert!(!language.is_empty(), "{name}: say what this block is:\n{block}");
                document.blocks.push(Block { language: language.to_owned(), text: block });
            } else if let Some(first) = line.strip_prefix("    ").filter(|_| blank) {
                let mut block = format!("{first}\n");
                while let Some(more) = lines.peek().and_then(|line| line.strip_prefix("    ")) {
                    block += &format!("{more}\n");
                    lines.next();
                }
                document.blocks.push(Block { language: String::new(), text: block });
            } else {
                document.prose.push(line.to_owned());
            }
            blank = line.trim().is_empty();
        }
        document
    }

    /// The lines that people are to type, without the remarks behind them, and what they are to write in Python,
    /// each block in one.
    pub fn commands(&self) -> Vec<String> {
        let typed = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
        let all = self.blocks.iter().flat_map(|Block { language, text }| match language.as_str() {
            "" | "sh" => text.lines().map(typed).filter(|line| !line.is_empty() && !line.starts_with('#')).collect(),
            "python" => vec![format!("```python\n{text}")],
            _ => vec![],
        });
        all.collect()
    }

    pub fn links(&self) -> Vec<String> {
        let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
        self.prose.iter().flat_map(|line| link.captures_iter(line).map(|found| found[1].to_owned())).collect()
    }

    /// What links may name, as GitHub makes it from headings.
    pub fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose.iter().filter(|line| line.starts_with('#'));
        let anchors = headings.map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>().replace(' ', "-")
        });
        let anchors: Vec<_> = anchors.collect();
        let all: BTreeSet<_> = anchors.iter().cloned().collect();
        assert_eq!(all.len(), anchors.len(), "{}: two headings are the same", self.name);
        all
    }
}
