//! Why an archive cannot be read.

/// What can go wrong while an archive is read. [`Error::code`] is stable; the sentence says what to
/// do and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "This is neither a gzip, zstd or tar file nor a directory: name a cPanel account archive (cpmove-USER.tar.gz or a full backup)."
    )]
    NotAnArchive,
    #[error(
        "The archive ends before its end mark: it was cut off while it was made or copied. Copy it again."
    )]
    Truncated,
    #[error("The archive is damaged ({0}): copy it again from the source.")]
    Damaged(String),
    #[error(
        "This is a JetBackup archive, whose layout is another: make a cPanel backup on the source server (pkgacct, or Full Backup), or convert it."
    )]
    JetbackupLayout,
    #[error(
        "No cPanel account is in this archive (neither cp/USER nor userdata/main): a partial backup cannot be restored on its own."
    )]
    NoAccount,
    #[error(
        "The archive has a member that no cPanel backup has ({0}): it is not read any further."
    )]
    UnsafeMember(String),
    #[error("The archive holds {0} twice, and none can tell which one counts: make it again.")]
    Twice(String),
    #[error("The archive is larger than allowed: {0}.")]
    TooLarge(String),
    #[error("The archive's {what} cannot be read: {why}.")]
    Metadata { what: String, why: String },
    #[error("The archive cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    /// The name of the error for programs, out of the control plane's list.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAnArchive => "not_an_archive",
            Self::Truncated | Self::Damaged(_) => "truncated",
            Self::JetbackupLayout => "jetbackup_layout",
            Self::NoAccount | Self::Metadata { .. } => "invalid_account",
            Self::UnsafeMember(_) | Self::Twice(_) => "unsafe_member",
            Self::TooLarge(_) => "archive_too_large",
            Self::Io(_) => "archive_unsafe",
        }
    }
}
