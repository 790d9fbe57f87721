//! Plays in XML as one text a role: the markup of Jon Bosak (`PLAY`, `SPEECH`, `SPEAKER`, `LINE`) or
//! TEI (`sp`, `speaker`, `l`, `p`). A role is a client, `Title/SPEAKER`.
//!
//! Each role's lines are cut by time, as in LEAF: the first are to train on, the last to evaluate.

use std::collections::BTreeMap;
use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};
use serde_json::json;

use super::archive::each_file;
use super::{Prepared, make_folder, write_whole};
use crate::file::{FETCH_AGAIN, malformed};
use crate::{DataError, Place};

/// Most elements of one play: thirty times the longest of Shakespeare's.
const NODES_MAX: u32 = 1 << 20;
/// The files that are made.
const TRAIN: &str = "train.jsonl";
const EVALUATE: &str = "evaluate.jsonl";

/// How plays are cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlayOptions {
    /// Roles with fewer speeches are left out.
    pub speeches_min: usize,
    /// The part of a role's lines, at its end, that is held out for evaluation: from 0, below 1.
    pub evaluate_fraction: f64,
}

impl Default for PlayOptions {
    /// Two speeches and a fifth, as in LEAF.
    fn default() -> Self {
        Self { speeches_min: 2, evaluate_fraction: 0.2 }
    }
}

/// One role's part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// How many speeches it has.
    pub speeches: usize,
    /// Its lines in order.
    pub lines: Vec<String>,
}

/// The roles of an archive of plays by name, and how many entries are no plays.
///
/// # Errors
/// On an archive or a play that is damaged.
pub fn read_roles(archive: &Path) -> Result<(BTreeMap<String, Role>, usize), DataError> {
    let (mut roles, mut skipped) = (BTreeMap::new(), 0);
    each_file(archive, |name, bytes| {
        if !name.to_lowercase().ends_with(".xml") {
            skipped += 1;
            return Ok(());
        }
        let unsound = |found: String| {
            let place = Place::Entry(name.to_owned());
            malformed(archive, place, "a play in XML", found, FETCH_AGAIN)
        };
        let text = String::from_utf8(bytes).map_err(|error| unsound(error.to_string()))?;
        // A document type is only named, never fetched; nodes bound what entities can grow to.
        let options =
            ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
        let play = Document::parse_with_options(&text, options)
            .map_err(|error| unsound(error.to_string()))?;
        if read_play(&play, name, &mut roles) == 0 {
            return Err(unsound("no speech (SPEECH or sp)".to_owned()));
        }
        Ok(())
    })?;
    Ok((roles, skipped))
}

/// Adds a play's speeches; how many there are.
fn read_play(play: &Document<'_>, file: &str, roles: &mut BTreeMap<String, Role>) -> usize {
    let title = play
        .descendants()
        .find(|node| is_any(*node, &["TITLE", "title"]))
        .map(text_of)
        .filter(|title| !title.is_empty());
    let title = title.unwrap_or_else(|| file.to_owned());
    let mut speeches = 0;
    for speech in play.descendants().filter(|node| is_any(*node, &["SPEECH", "sp"])) {
        speeches += 1;
        let lines: Vec<String> = speech
            .descendants()
            .filter(|node| is_any(*node, &["LINE", "l", "p", "ab"]))
            .map(text_of)
            .filter(|line| !line.is_empty())
            .collect();
        let speakers = speech.children().filter(|node| is_any(*node, &["SPEAKER", "speaker"]));
        let mut speakers: Vec<String> =
            speakers.map(text_of).filter(|name| !name.is_empty()).collect();
        if speakers.is_empty() {
            speakers.extend(speech.attribute("who").map(|who| who.trim_matches('#').to_owned()));
        }
        speakers.dedup();
        for speaker in speakers {
            let role = roles.entry(format!("{title}/{speaker}")).or_default();
            role.speeches += 1;
            role.lines.extend(lines.iter().cloned());
        }
    }
    speeches
}

fn is_any(node: Node<'_, '_>, names: &[&str]) -> bool {
    node.is_element() && names.contains(&node.tag_name().name())
}

/// An element's text without stage directions, its white space made single spaces.
fn text_of(node: Node<'_, '_>) -> String {
    let spoken = node.descendants().filter(|piece| {
        let aside = |above: Node<'_, '_>| is_any(above, &["STAGEDIR", "stage", "note"]);
        piece.is_text() && !piece.ancestors().take_while(|above| *above != node).any(aside)
    });
    let text: String = spoken.filter_map(|piece| piece.text()).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Makes `train.jsonl` and `evaluate.jsonl` in a folder: one object a role, with `client` and
/// `text`, for `format = "jsonl"` with `text_column = "text"` and `client_column = "client"`.
///
/// # Errors
/// As [`read_roles`], and when the folder cannot be written to.
pub fn prepare_plays(
    archive: &Path,
    folder: &Path,
    options: &PlayOptions,
) -> Result<Prepared, DataError> {
    let (roles, skipped) = read_roles(archive)?;
    let mut prepared = Prepared { skipped, ..Prepared::default() };
    let (mut train, mut evaluate) = (String::new(), String::new());
    let fraction = options.evaluate_fraction.clamp(0.0, 1.0);
    for (client, role) in roles.iter().filter(|(_, role)| role.speeches >= options.speeches_min) {
        // Lines of one role are far below 2^53.
        let held = (role.lines.len() as f64 * fraction).floor() as usize;
        let (first, last) = role.lines.split_at(role.lines.len() - held);
        prepared.clients += 1;
        for (lines, into, rows) in [
            (first, &mut train, &mut prepared.train_rows),
            (last, &mut evaluate, &mut prepared.evaluate_rows),
        ] {
            if !lines.is_empty() {
                let text = lines.join("\n") + "\n";
                into.push_str(&json!({ "client": client, "text": text }).to_string());
                into.push('\n');
                *rows += 1;
            }
        }
    }
    make_folder(folder)?;
    for (name, text) in [(TRAIN, train), (EVALUATE, evaluate)] {
        if !text.is_empty() {
            let path = folder.join(name);
            write_whole(&path, text.as_bytes())?;
            prepared.files.push(path);
        }
    }
    Ok(prepared)
}
