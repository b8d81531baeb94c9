//! Accounts of this host, from `/etc/passwd` alone: no name service is asked, because one that hangs must not hang `who`.

use std::fs;

/// The name of the user with this number, who calls himself `claimed`.
///
/// What `/etc/passwd` says counts. Of users that are not in it, as with LDAP, only their own word is known; that counts
/// unless it is the name of one who is in it.
pub fn name_of(user: u32, claimed: Option<String>) -> Option<String> {
    name_in(&fs::read_to_string("/etc/passwd").unwrap_or_default(), user, claimed)
}

fn name_in(passwd: &str, user: u32, claimed: Option<String>) -> Option<String> {
    let accounts = || {
        passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(1)?.parse::<u32>().ok()?))
        })
    };
    let is_claimed = |name: &str| claimed.as_deref() == Some(name);
    let mut own = accounts().filter(|(_, number)| *number == user).map(|(name, _)| name);
    // Several names of one number are one user.
    if let Some(first) = own.next() {
        let name = own.find(|name| is_claimed(name)).unwrap_or(first);
        return Some(name.to_owned());
    }
    let is_anothers = accounts().any(|(name, _)| is_claimed(name));
    claimed.filter(|name| !name.is_empty() && !is_anothers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/:/bin/sh\n\nx:y\n";

    #[test]
    fn nobody_gets_anothers_name_by_saying_so() {
        let of = |user, claimed: &str| name_in(PASSWD, user, Some(claimed.to_owned()));
        assert_eq!(of(1000, "anna").as_deref(), Some("anna"));
        assert_eq!(of(1000, "root").as_deref(), Some("anna"));
        assert_eq!(name_in(PASSWD, 1000, None).as_deref(), Some("anna"));
        assert_eq!(of(0, "toor").as_deref(), Some("toor"));
        assert_eq!(of(0, "anna").as_deref(), Some("root"));
        assert_eq!(of(70_000, "ldap.user").as_deref(), Some("ldap.user"));
        assert_eq!(of(70_000, "anna"), None);
        assert_eq!((of(70_000, ""), name_in(PASSWD, 70_000, None)), (None, None));
    }
}
