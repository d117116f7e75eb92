//! The backends that this gateway knows: built in, and added by the site.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::Manifest;
use super::manifest::ManifestError;
use super::render::Template;

/// A backend as it comes with the program: manifest and template.
struct BuiltIn {
    manifest: &'static str,
    template: &'static str,
}

macro_rules! built_in {
    ($name:literal, $template:literal) => {
        BuiltIn {
            manifest: include_str!(concat!("../../backends/", $name, "/backend.toml")),
            template: include_str!(concat!("../../templates/", $template)),
        }
    };
}

const BUILT_IN: [BuiltIn; 4] = [
    built_in!("native", "native.toml.tera"),
    built_in!("stunnel", "stunnel.conf.tera"),
    built_in!("haproxy", "haproxy.cfg.tera"),
    built_in!("nginx", "nginx.conf.tera"),
];

/// The word without which a template tells its program no sources.
const SOURCES: &str = ".sources";
/// And without which no bandwidth.
const BANDWIDTH: &str = "bandwidth";

/// The manifests of [`BUILT_IN`]. Their patterns take long to compile.
static MANIFESTS: LazyLock<Vec<Arc<Manifest>>> = LazyLock::new(|| {
    let manifest = |built_in: &BuiltIn| Manifest::parse(built_in.manifest).expect("ours are tested").into();
    BUILT_IN.iter().map(manifest).collect()
});

/// All backends, by name, each with its template.
#[derive(Debug, Clone)]
pub struct Catalog {
    backends: BTreeMap<String, (Arc<Manifest>, Arc<Template>)>,
}

/// A backend that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file of the site cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A manifest is not what it should be.
    #[error("use the manifest {}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: ManifestError,
    },
    /// A template does not parse.
    #[error("parse the template {name}: {why}")]
    Template {
        /// Which.
        name: String,
        /// Where and why, as the template engine says it.
        why: String,
    },
    /// No such backend.
    #[error("find a backend named {name:?}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Catalog {
    /// The built-in backends, then those under `site/backends` and
    /// `site/templates`, which replace built-in ones of the same name.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(site: Option<&Path>) -> Result<Self, CatalogError> {
        let mut templates = BTreeMap::new();
        let mut manifests = Vec::new();
        for (manifest, built_in) in MANIFESTS.iter().zip(&BUILT_IN) {
            templates.insert(manifest.template.clone(), built_in.template.to_owned());
            manifests.push(Arc::clone(manifest));
        }
        if let Some(site) = site {
            for path in files_under(&site.join("templates"))? {
                if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                    templates.insert(name.to_owned(), read(&path)?);
                }
            }
            for folder in files_under(&site.join("backends"))? {
                let path = folder.join("backend.toml");
                manifests.push(Arc::new(parse(&read(&path)?, &path)?));
            }
        }
        let mut backends = BTreeMap::new();
        for manifest in manifests {
            let text = templates.get(&manifest.template).ok_or_else(|| CatalogError::Template {
                name: manifest.template.clone(),
                why: "there is no such file".into(),
            })?;
            let template =
                Template::parse(text).map_err(|why| CatalogError::Template { name: manifest.template.clone(), why })?;
            if manifest.abilities.source_filter && !text.contains(SOURCES) {
                let why = "the manifest says source_filter, and the template does not use l.sources";
                return Err(CatalogError::Template { name: manifest.template.clone(), why: why.into() });
            }
            if manifest.abilities.bandwidth_limit && !text.contains(BANDWIDTH) {
                let why = "the manifest says bandwidth_limit, and the template does not use bandwidth";
                return Err(CatalogError::Template { name: manifest.template.clone(), why: why.into() });
            }
            backends.insert(manifest.name.clone(), (manifest, Arc::new(template)));
        }
        Ok(Self { backends })
    }

    /// The backend of that name.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], which lists the names there are.
    pub fn get(&self, name: &str) -> Result<Arc<Manifest>, CatalogError> {
        let known = || self.backends.keys().cloned().collect::<Vec<_>>().join(", ");
        self.backends
            .get(name)
            .map(|(manifest, _)| Arc::clone(manifest))
            .ok_or_else(|| CatalogError::Unknown { name: name.to_owned(), known: known() })
    }

    /// The template of a backend of this catalog.
    #[must_use]
    pub fn template(&self, manifest: &Manifest) -> Option<Arc<Template>> {
        self.backends.get(&manifest.name).map(|(_, template)| Arc::clone(template))
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Manifest>> {
        self.backends.values().map(|(manifest, _)| manifest)
    }
}

fn parse(text: &str, path: &Path) -> Result<Manifest, CatalogError> {
    Manifest::parse(text).map_err(|source| CatalogError::Manifest { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<String, CatalogError> {
    fs::read_to_string(path).map_err(|source| CatalogError::Read { path: path.to_owned(), source })
}

/// What a folder holds, sorted; nothing when there is no such folder.
fn files_under(folder: &Path) -> Result<Vec<PathBuf>, CatalogError> {
    let fault = |source| CatalogError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(fault(e)),
    };
    let mut paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(fault)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::causes;

    #[test]
    fn the_built_in_backends_load() {
        let catalog = Catalog::load(None).expect("built in");
        let names: Vec<_> = catalog.all().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["haproxy", "native", "nginx", "stunnel"]);
        assert!(matches!(catalog.get("mock"), Err(CatalogError::Unknown { .. })));
    }

    #[test]
    fn a_site_replaces_and_adds() {
        let site = tempfile::tempdir().expect("a folder");
        let folder = site.path().join("backends/mine");
        fs::create_dir_all(&folder).expect("folder");
        fs::create_dir_all(site.path().join("templates")).expect("folder");
        let manifest = BUILT_IN[0].manifest.replace("name = \"native\"", "name = \"mine\"");
        fs::write(folder.join("backend.toml"), manifest).expect("manifest");
        let template = site.path().join("templates/native.toml.tera");
        fs::write(&template, "# {{ session }}").expect("template");
        let error = Catalog::load(Some(site.path())).expect_err("it lets everyone in");
        assert!(error.to_string().contains("does not use l.sources"), "{error}");
        fs::write(&template, "# {{ listeners[0].sources }}").expect("template");
        let error = Catalog::load(Some(site.path())).expect_err("it lets everything through");
        assert!(error.to_string().contains("does not use bandwidth"), "{error}");
        let text = "# {{ listeners[0].sources }}{% if bandwidth %} at most {{ bandwidth }}{% endif %}";
        fs::write(&template, text).expect("template");
        let catalog = Catalog::load(Some(site.path())).expect("loads");
        let mine = catalog.get("mine").expect("added");
        let mut context = tera::Context::new();
        context.insert("listeners", &[std::collections::BTreeMap::from([("sources", "10.0.0.0/8")])]);
        let text = catalog.template(&mine).expect("it has one").fill_in(&context).expect("it renders");
        assert_eq!(text, "# 10.0.0.0/8");
    }

    #[test]
    fn a_manifest_that_leads_out_of_the_folder_is_refused() {
        let bad = BUILT_IN[0].manifest.replace("config = \"s2ds.toml\"", "config = \"../x\"");
        assert!(matches!(parse(&bad, Path::new("x")), Err(CatalogError::Manifest { .. })));
    }

    #[test]
    fn what_a_site_opens_to_its_program_is_said_from_the_root() {
        let with = |path: &str| format!("{}\n[sandbox]\nread = [\"{path}\"]\n", BUILT_IN[0].manifest);
        let fault = parse(&with("lib"), Path::new("x")).expect_err("relative to what?");
        assert!(causes(&fault).contains("\"lib\" must be an absolute path"), "{}", causes(&fault));
        let good = parse(&with("/opt/proxy"), Path::new("x")).expect("absolute");
        assert_eq!(good.sandbox.read, [Path::new("/opt/proxy")]);
    }

    #[test]
    fn a_manifest_cannot_write_over_the_key_nor_the_journal() {
        for name in ["psk", "session.json", "native.log", "0.sock", "psk.tmp"] {
            let bad = BUILT_IN[0].manifest.replace("config = \"s2ds.toml\"", &format!("config = {name:?}"));
            let Err(CatalogError::Manifest { source, .. }) = parse(&bad, Path::new("x")) else {
                panic!("{name} was taken");
            };
            assert_eq!(source, ManifestError::Taken(name.into()));
        }
    }

    #[test]
    fn a_manifest_that_waits_for_ever_is_refused() {
        let signal = "signal = \"HUP\"";
        for (wait, expected) in [("1e19", "longer than 3600 seconds"), ("1e99", "line "), ("nan", "line ")] {
            let bad = BUILT_IN[0].manifest.replace(signal, &format!("{signal}\ntimeout_seconds = {wait}"));
            let error = Manifest::parse(&bad).expect_err(wait).to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
