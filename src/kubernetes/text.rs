//! Texts of a server and of programs, made safe for one line of a terminal.

/// Maximum length of a foreign text that is printed as a part of a line, in characters.
const MOST_CHARACTERS: usize = 1500;

/// A foreign text in one line: of bounded length, and without control characters, which could move the cursor or colour
/// the terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (at, character) in text.split_whitespace().collect::<Vec<_>>().join(" ").chars().enumerate() {
        if at == MOST_CHARACTERS {
            line.push('…');
            break;
        }
        line.push(if character.is_control() { '\u{fffd}' } else { character });
    }
    line
}

/// A list of names: all of a few, otherwise the first ones and the number of the others.
pub(super) fn names(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() {
        0..=SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_stay_in_one_line_and_do_not_steer_the_terminal() {
        assert_eq!(one_line("a\n  b\t\u{1b}[31mc\r\n"), "a b \u{fffd}[31mc");
        assert_eq!(one_line(&"x".repeat(5000)).chars().count(), MOST_CHARACTERS + 1);
    }

    #[test]
    fn many_names_are_counted() {
        let many: Vec<String> = (0..7).map(|id| format!("node-{id}")).collect();
        assert_eq!(names(&many), "node-0, node-1, node-2, node-3, node-4 and 2 more");
        assert_eq!(names(&many[..2]), "node-0, node-1");
    }
}
