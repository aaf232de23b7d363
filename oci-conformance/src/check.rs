//! A check: one sentence of a specification, where it stands, and how it is tried.

use std::fmt;

use futures_util::future::LocalBoxFuture;

use crate::client::Trouble;
use crate::stage::Stage;

/// One check of the suite.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it is about.
    pub category: Category,
    /// Its number within the category, from 1.
    pub number: u8,
    /// How binding the sentence is.
    pub level: Level,
    /// Where the sentence stands.
    pub clause: &'static str,
    /// What must be so, in one sentence.
    pub title: &'static str,
    /// What it does.
    pub run: for<'s> fn(&'s Stage) -> LocalBoxFuture<'s, Finding>,
}

/// How a check ended: as it must, or why not.
pub type Finding = Result<(), Stop>;

/// Why a check did not pass.
#[derive(Debug)]
pub enum Stop {
    /// The registry does not do what it must: what was wanted and what came.
    Fail(String),
    /// It cannot be tried here, or the registry says that it does not do this; the reason.
    Skip(String),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Fail(trouble.to_string())
    }
}

impl Check {
    /// `PUL-07`
    pub fn id(&self) -> String {
        format!("{}-{:02}", self.category, self.number)
    }
}

/// How binding a sentence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A MUST of the distribution specification.
    Must,
    /// A SHOULD of the distribution specification.
    Should,
    /// RFC 9110 and its kin.
    Rfc,
    /// What users of a registry or a mirror may expect; no specification says it.
    Own,
}

impl Level {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::Rfc => "RFC",
            Self::Own => "own",
        }
    }
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Manifests and blobs are had.
    Pull,
    /// Parts of blobs.
    Range,
    /// Errors say what is so.
    Errors,
    /// Tag lists and referrers.
    Discovery,
    /// Uploads and manifests are taken.
    Push,
    /// Deletes.
    Management,
    /// Who may read.
    Auth,
    /// One mirror before many registries.
    Proxying,
    /// What is asked again, and what is not.
    Caching,
    /// Wrong bytes are not passed on.
    Integrity,
    /// Nobody takes more than is good.
    Limits,
}

impl Category {
    /// All, in the order of the report.
    pub const ALL: [Self; 11] = [
        Self::Pull,
        Self::Range,
        Self::Errors,
        Self::Discovery,
        Self::Push,
        Self::Management,
        Self::Auth,
        Self::Proxying,
        Self::Caching,
        Self::Integrity,
        Self::Limits,
    ];

    /// The three letters of its checks.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pull => "PUL",
            Self::Range => "RNG",
            Self::Errors => "ERR",
            Self::Discovery => "DSC",
            Self::Push => "PSH",
            Self::Management => "MGT",
            Self::Auth => "AUT",
            Self::Proxying => "PRX",
            Self::Caching => "CCH",
            Self::Integrity => "INT",
            Self::Limits => "LIM",
        }
    }

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Range => "range",
            Self::Errors => "errors",
            Self::Discovery => "discovery",
            Self::Push => "push",
            Self::Management => "management",
            Self::Auth => "auth",
            Self::Proxying => "proxying",
            Self::Caching => "caching",
            Self::Integrity => "integrity",
            Self::Limits => "limits",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Ends the check as failed unless the condition holds; the words say what came instead.
macro_rules! must {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err($crate::check::Stop::Fail(format!($($words)+)));
        }
    };
}

/// Ends the check as not tried.
macro_rules! skip {
    ($($words:tt)+) => {
        return Err($crate::check::Stop::Skip(format!($($words)+)))
    };
}

/// A row of a category's table.
macro_rules! check {
    ($category:ident $number:literal $level:ident, $clause:literal, $title:literal, $run:path) => {
        $crate::check::Check {
            category: $crate::check::Category::$category,
            number: $number,
            level: $crate::check::Level::$level,
            clause: $clause,
            title: $title,
            run: |stage| Box::pin($run(stage)),
        }
    };
}

pub(crate) use {check, must, skip};
