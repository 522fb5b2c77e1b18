//! Lines of a shell as words: quotes, comments, operators, and lines that go on. Enough for documents. Pure.

/// The commands of a script, each with its words. Redirections are left out.
///
/// # Errors
/// If a quotation mark is not closed.
pub fn commands(script: &str) -> Result<Vec<Vec<String>>, String> {
    let script = script.replace("\\\n", " ");
    let mut all = Vec::new();
    for line in script.lines() {
        let mut words: Vec<String> = Vec::new();
        for token in tokens(line)? {
            match token {
                Token::Word(word) => words.push(word),
                Token::Operator(_) => all.push(std::mem::take(&mut words)),
            }
        }
        all.push(words);
    }
    let all = all.into_iter().map(|words| without_redirections(&words));
    Ok(all.filter(|words| !words.is_empty()).collect())
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Operator(char),
}

fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut word, mut chars) = (Vec::new(), None::<String>, line.chars().peekable());
    while let Some(it) = chars.next() {
        match it {
            '#' if word.is_none() => break,
            '\'' | '"' => {
                let quoted: String = chars.by_ref().take_while(|other| *other != it).collect();
                if !line.ends_with(it) && chars.peek().is_none() {
                    return Err(format!("{it} is not closed: {line}"));
                }
                word.get_or_insert_default().push_str(&quoted);
            }
            ' ' | '\t' => tokens.extend(word.take().map(Token::Word)),
            '&' | '|' | ';' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::Operator(it));
            }
            it => word.get_or_insert_default().push(it),
        }
    }
    tokens.extend(word.map(Token::Word));
    Ok(tokens)
}

fn without_redirections(words: &[String]) -> Vec<String> {
    let (mut kept, mut words) = (Vec::new(), words.iter());
    while let Some(word) = words.next() {
        match word.as_str() {
            ">" | ">>" | "<" | "2>" => drop(words.next()),
            it if it.starts_with(['>', '<']) => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_words() {
        let script = "sudo a --x '[2001:db8::1]:7300' \\\n  b   # why\n\nc && d > /tmp/x | \"e f\"; g=1 h\n";
        let words: Vec<_> = commands(script).unwrap().iter().map(|it| it.join("_")).collect();
        assert_eq!(words, ["sudo_a_--x_[2001:db8::1]:7300_b", "c", "d", "e f", "g=1_h"]);
        assert!(commands("a 'b").is_err());
    }
}
