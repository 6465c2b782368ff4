//! The fields of a table in a cluster file, taken one by one; whatever is wrong is told with file, place and advice.

use crate::failure::{Failure, Outcome};
use crate::words;
use std::path::Path;
use toml::{Table, Value};

/// One table of a file.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    file: &'a Path,
    /// Which table, as a sentence names it; empty for the outermost.
    place: String,
    table: &'a Table,
}

impl<'a> Fields<'a> {
    /// The outermost table.
    pub(crate) const fn of(file: &'a Path, table: &'a Table) -> Self {
        Self { file, place: String::new(), table }
    }

    /// A refusal that names file and place.
    pub(crate) fn refuse(&self, what: &str) -> Failure {
        let file = self.file.display();
        match self.place.as_str() {
            "" => Failure::refused(format!("{file}: {what}")),
            place => Failure::refused(format!("{file}, {place}: {what}")),
        }
    }

    /// Refuses fields that are not among these.
    pub(crate) fn only(&self, known: &[&str]) -> Outcome {
        let Some(stranger) = self.table.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(());
        };
        let advice = match words::nearest(stranger, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("what it may hold is {}", words::list(known)),
        };
        Err(self.refuse(&format!("there is no field `{stranger}`; {advice}")))
    }

    fn value<T>(
        &self,
        key: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Outcome<Option<T>> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            let is = value.type_str();
            self.refuse(&format!("`{key}` is a value of type {is}, but must be {kind}"))
        })
    }

    fn needed<T>(&self, key: &str, value: Option<T>) -> Outcome<T> {
        value.ok_or_else(|| self.refuse(&format!("the field `{key}` is missing; add it")))
    }

    /// A whole number of 16 bits.
    pub(crate) fn number(&self, key: &str) -> Outcome<u16> {
        let number = self.needed(key, self.value(key, "a number", Value::as_integer)?)?;
        u16::try_from(number).map_err(|_| {
            self.refuse(&format!("`{key}` is {number}, but must be from 0 to {}", u16::MAX))
        })
    }

    /// A whole number of any size.
    pub(crate) fn version(&self, key: &str) -> Outcome<i64> {
        self.needed(key, self.value(key, "a number", Value::as_integer)?)
    }

    /// True or false; false when absent.
    pub(crate) fn flag(&self, key: &str) -> Outcome<bool> {
        Ok(self.value(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A string that must be there.
    pub(crate) fn text(&self, key: &str) -> Outcome<&'a str> {
        self.needed(key, self.text_if_any(key)?)
    }

    /// A string that may be absent.
    pub(crate) fn text_if_any(&self, key: &str) -> Outcome<Option<&'a str>> {
        self.value(key, "a string in quotes", Value::as_str)
    }

    /// What a string that must be there means. The reader's error is the rest of a sentence about the string.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Outcome<T> {
        self.needed(key, self.read_if_any(key, read)?)
    }

    /// What a string means that may be absent.
    pub(crate) fn read_if_any<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Outcome<Option<T>> {
        let Some(text) = self.text_if_any(key)? else { return Ok(None) };
        match read(text) {
            Ok(value) => Ok(Some(value)),
            Err(what) => Err(self.refuse(&format!("`{key}` = \"{text}\" {what}"))),
        }
    }

    /// The table under `[key]`, which must be there. It is named by its key.
    pub(crate) fn table(&self, key: &str) -> Outcome<Self> {
        let kind = format!("a table, under [{key}]");
        let table = self.needed(key, self.value(key, &kind, Value::as_table)?)?;
        Ok(Fields { file: self.file, place: format!("[{key}]"), table })
    }

    /// The tables under `[[key]]`, none when absent. Each is named by its place, `one` and a number.
    pub(crate) fn tables(&self, key: &str, one: &str) -> Outcome<Vec<Self>> {
        let kind = format!("tables, each under [[{key}]]");
        let Some(values) = self.value(key, &kind, Value::as_array)? else { return Ok(Vec::new()) };
        let mut tables = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let table =
                value.as_table().ok_or_else(|| self.refuse(&format!("`{key}` must be {kind}")))?;
            let place = format!("{one} number {}", index + 1);
            tables.push(Fields { file: self.file, place, table });
        }
        Ok(tables)
    }
}
