//! The fields of a struct, and the variants of an enum, with the comments on them.

use syn::{Attribute, Expr, Fields, File, Item, Lit, Meta, Type};

/// A field as its reader knows it.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its key.
    pub name: String,
    /// What its comment says.
    pub says: String,
    /// What may stand there, in words.
    pub kind: &'static str,
    /// Whether it may be left out.
    pub optional: bool,
}

/// The fields of the struct `name`, in their order, but for those that files do not have.
pub fn fields(source: &str, name: &str) -> Vec<Field> {
    let file: File = syn::parse_file(source).expect("it has been compiled");
    let fields = file.items.iter().find_map(|item| match item {
        Item::Struct(found) if found.ident == name => Some(&found.fields),
        _ => None,
    });
    let Some(Fields::Named(fields)) = fields else { panic!("there is no struct {name} with named fields") };
    let in_files = fields.named.iter().filter(|field| !serde_says(&field.attrs, "skip"));
    let all = in_files.map(|field| {
        let name = field.ident.as_ref().expect("it is named").to_string();
        let (kind, is_option) = kind(&field.ty);
        let says = comment(&field.attrs);
        Field { name, says, kind, optional: is_option || serde_says(&field.attrs, "default") }
    });
    all.collect()
}

/// The variants of the enum `name`, by the words that stand for them in files.
pub fn words(source: &str, name: &str) -> Vec<(String, String)> {
    let file: File = syn::parse_file(source).expect("it has been compiled");
    let found = file.items.iter().find_map(|item| match item {
        Item::Enum(found) if found.ident == name => Some(found),
        _ => None,
    });
    let found = found.unwrap_or_else(|| panic!("there is no enum {name}"));
    let words = found.variants.iter().map(|v| (v.ident.to_string().to_lowercase(), comment(&v.attrs)));
    words.collect()
}

/// The lines of a comment, as one.
fn comment(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ").replace('`', "")
}

fn serde_says(attributes: &[Attribute], word: &str) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("serde")).any(|attribute| {
        let mut found = false;
        let parsed = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident(word);
            if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<Expr>()?;
            }
            Ok(())
        });
        parsed.expect("serde has understood it");
        found
    })
}

/// What a type is in TOML, and whether it is optional.
fn kind(of: &Type) -> (&'static str, bool) {
    let Type::Path(path) = of else { return ("text", false) };
    let last = path.path.segments.last().expect("a path has an end");
    let inner = match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => arguments.args.iter().find_map(|argument| match argument {
            syn::GenericArgument::Type(inner) => Some(inner),
            _ => None,
        }),
        _ => None,
    };
    match (last.ident.to_string().as_str(), inner) {
        ("Option", Some(inner)) => (kind(inner).0, true),
        ("Vec", Some(inner)) if matches!(kind(inner).0, "table") => ("tables", false),
        ("Vec" | "RegexSet", _) => ("list of texts", false),
        ("bool", _) => ("true or false", false),
        ("u16" | "u32" | "u64" | "usize" | "f64" | "Duration", _) => ("number", false),
        ("Signal", _) => ("signal", false),
        (
            "Abilities" | "Probe" | "NeededFile" | "Allowance" | "Check" | "Start" | "Reload" | "Stop" | "TcpSettings"
            | "ProviderSettings" | "RuleSettings" | "Tcp" | "BTreeMap" | "ListenerView",
            _,
        ) => ("table", false),
        _ => ("text", false),
    }
}
