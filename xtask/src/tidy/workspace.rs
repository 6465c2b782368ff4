//! What the rules are held against: the packages as cargo sees them, and their parsed sources.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Finding;

/// A tree, read once.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Every member, in order of its folder.
    pub packages: Vec<Package>,
    /// The folders of the members that a plain `cargo build` builds.
    pub default_members: Vec<String>,
    /// Every Rust file under the members' `src`, `tests`, `benches` and `examples`.
    pub sources: Vec<Source>,
    /// Other text that people write: manifests and protobuf files, by path.
    pub texts: Vec<(String, String)>,
    /// Rust files that are not Rust.
    pub unparsed: Vec<Finding>,
}

/// A member of the workspace.
#[derive(Clone, Debug, Default)]
pub struct Package {
    /// The name under which it is published.
    pub name: String,
    /// Its folder, relative to the workspace.
    pub folder: String,
    /// What its manifest asks for.
    pub dependencies: Vec<Dependency>,
    /// The root files of its targets, relative to the workspace.
    pub roots: Vec<String>,
    /// The build script, relative to the workspace, where there is one.
    pub build_script: Option<String>,
}

/// A dependency as the manifest states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// For tests and benches only.
    pub dev: bool,
}

/// A parsed Rust file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// The text, parsed.
    pub tree: syn::File,
}

impl Source {
    /// Parses a file's text.
    ///
    /// # Errors
    /// The text is not Rust; the finding says where.
    pub fn parse(path: &str, text: &str) -> Result<Self, Finding> {
        match syn::parse_file(text) {
            Ok(tree) => Ok(Self { path: path.to_owned(), text: text.to_owned(), tree }),
            Err(error) => {
                let line = error.span().start().line;
                Err(Finding::new(path, line, format!("This file is not valid Rust: {error}.")))
            }
        }
    }

    /// Whether the file belongs to tests or benches as a whole.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.contains("/benches/")
    }
}

impl Workspace {
    /// Asks cargo for the members and reads their files.
    ///
    /// # Errors
    /// Cargo fails, or a file cannot be read; the text says which.
    pub fn read(root: &Path) -> Result<Self, String> {
        let metadata = metadata(root)?;
        let mut workspace = Self {
            packages: packages(root, &metadata)?,
            default_members: default_members(&metadata),
            ..Self::default()
        };
        let folders: Vec<String> =
            workspace.packages.iter().map(|package| package.folder.clone()).collect();
        for folder in folders {
            workspace.read_texts(root, &folder)?;
            for part in ["src", "tests", "benches", "examples"] {
                workspace.read_sources(root, &format!("{folder}/{part}"))?;
            }
        }
        Ok(workspace)
    }

    /// The source at a path, where there is one.
    #[must_use]
    pub fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    /// The member whose folder holds a path.
    #[must_use]
    pub fn owner(&self, path: &str) -> Option<&Package> {
        self.packages
            .iter()
            .find(|package| path.strip_prefix(&package.folder).is_some_and(|r| r.starts_with('/')))
    }

    fn read_sources(&mut self, root: &Path, folder: &str) -> Result<(), String> {
        for path in files_below(root, folder)? {
            if has_extension(&path, "rs") {
                match Source::parse(&path, &read(root, &path)?) {
                    Ok(source) => self.sources.push(source),
                    Err(finding) => self.unparsed.push(finding),
                }
            }
        }
        Ok(())
    }

    fn read_texts(&mut self, root: &Path, folder: &str) -> Result<(), String> {
        let mut paths = files_below(root, &format!("{folder}/proto"))?;
        paths.push(format!("{folder}/Cargo.toml"));
        paths.push(format!("{folder}/README.md"));
        paths.retain(|path| root.join(path).is_file());
        for path in paths {
            let text = read(root, &path)?;
            self.texts.push((path, text));
        }
        Ok(())
    }

    /// The text of a manifest, protobuf file or README.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.iter().find(|(at, _)| at == path).map(|(_, text)| text.as_str())
    }
}

/// Whether a path ends in `.extension`.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// The text of a file, or where and why there is none.
pub(crate) fn read(root: &Path, path: &str) -> Result<String, String> {
    fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))
}

/// Every file below a folder, relative to the workspace and in order; none if there is no folder.
pub(crate) fn files_below(root: &Path, folder: &str) -> Result<Vec<String>, String> {
    if !root.join(folder).is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let entries =
            fs::read_dir(root.join(&folder)).map_err(|error| format!("{folder}: {error}"))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("{folder}: {error}"))?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

fn metadata(root: &Path) -> Result<Value, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

fn packages(root: &Path, metadata: &Value) -> Result<Vec<Package>, String> {
    let listed = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let mut packages: Vec<Package> = listed.iter().map(|value| package(root, value)).collect();
    packages.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(packages)
}

fn package(root: &Path, value: &Value) -> Package {
    let manifest = relative(root, &value["manifest_path"]);
    let mut package = Package {
        name: text(&value["name"]),
        folder: manifest.trim_end_matches("/Cargo.toml").to_owned(),
        dependencies: array(&value["dependencies"]).map(dependency).collect(),
        ..Package::default()
    };
    for target in array(&value["targets"]) {
        let path = relative(root, &target["src_path"]);
        if array(&target["kind"]).any(|kind| kind == "custom-build") {
            package.build_script = Some(path);
        } else {
            package.roots.push(path);
        }
    }
    package
}

fn dependency(value: &Value) -> Dependency {
    Dependency { name: text(&value["name"]), dev: value["kind"] == "dev" }
}

/// Package ids end in the folder's address; the member's folder is what is left of it.
fn default_members(metadata: &Value) -> Vec<String> {
    let root = text(&metadata["workspace_root"]);
    array(&metadata["workspace_default_members"])
        .filter_map(|id| {
            let id = text(id);
            let folder = id.split_once(&format!("{root}/"))?.1;
            Some(folder.split('#').next().unwrap_or(folder).to_owned())
        })
        .collect()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn relative(root: &Path, value: &Value) -> String {
    let path = text(value);
    let inside = Path::new(&path).strip_prefix(root).map(|path| path.to_string_lossy().into());
    inside.unwrap_or(path)
}
