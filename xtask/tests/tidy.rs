//! The tree keeps the rules of the house.

#[test]
fn the_tree_is_tidy() {
    let findings = xtask::tidy::check(&xtask::workspace_root()).expect("the tree can be judged");
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "`cargo xtask tidy` finds:\n{}", lines.join("\n"));
}
