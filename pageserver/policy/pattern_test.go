package policy

import (
	"strings"
	"testing"
)

type fixed map[string][]string

func (f fixed) Values(key string) []string { return f[key] }

func TestPatterns(t *testing.T) {
	r := &Request{Context: fixed{"aws:username": {"ann"}, "many": {"a", "b"}, "wild": {"a*"}}}
	for _, c := range []struct {
		pattern, s string
		ok         bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "A", false}, {"a", "ab", false}, {"ab", "a", false},
		{"*", "", true}, {"*", "anything/at all", true}, {"**", "", true}, {"a*", "a", true}, {"a*", "ba", false},
		{"*a", "a", true}, {"*a", "ba", true}, {"*a", "ab", false}, {"*a", "aba", true}, {"a*b*c", "abc", true},
		{"a*b*c", "axxbxxbc", true}, {"a*b*c", "axxbxxb", false}, {"*ab*ab", "abab", true}, {"*ab*ab", "aba", false},
		{"?", "", false}, {"?", "a", true}, {"?", "é", true}, {"?", "ab", false}, {"??", "é", false}, {"*?", "é", true}, {"*??", "é", false},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"*?b", "aab", true}, {"a*?", "a", false},
		{"home/${aws:username}/*", "home/ann/x", true}, {"home/${AWS:UserName}/*", "home/ann/x", true}, {"home/${aws:username}/*", "home/bob/x", false},
		{"${none}", "", false}, {"*${none}*", "a", false}, {"${none, 'x'}", "x", true}, {"${none,''}a", "a", true}, {"${aws:username, 'x'}", "ann", true},
		{"${many}", "a", false}, {"${wild}", "a*", true}, {"${wild}", "ab", false}, {"${*}", "*", true}, {"${*}", "a", false}, {"${?}${$}", "?$", true},
		{"$", "$", true}, {"$x}", "$x}", true},
	} {
		p, ok := compile(c.pattern, true, true)
		if !ok {
			t.Errorf("%q does not compile", c.pattern)
			continue
		}
		if got := p.match(c.s, r); got != c.ok {
			t.Errorf("%q matches %q: %t", c.pattern, c.s, got)
		}
	}
	for _, bad := range []string{"${", "${}", "${a", "${,'x'}", "${a,x}", "${a,'x}", "${a,'}", "${a b*}"} {
		if _, ok := compile(bad, true, true); ok {
			t.Errorf("%q compiles", bad)
		}
	}
	p, _ := compile("${aws:username}*?", false, false)
	if !p.match("${aws:username}*?", r) || p.match("ann", r) {
		t.Error("a text without wildcards and variables stands for something else")
	}
	p, _ = compile("S3:get*", true, false)
	if !p.matchFold("s3:GetObject", r) || p.matchFold("s3:PutObject", r) {
		t.Error("case")
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "aXbYc")
	f.Add("*é?*", "éé")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 30 || len(s) > 30 {
			return
		}
		p, ok := compile(pattern, true, false)
		if !ok {
			t.Fatal("a pattern without variables always compiles")
		}
		if got, want := p.match(s, &Request{}), slowGlob([]rune(pattern), []rune(s)); got != want && strings.ToValidUTF8(s, "") == s && strings.ToValidUTF8(pattern, "") == pattern {
			t.Errorf("%q matches %q: %t, want %t", pattern, s, got, want)
		}
	})
}

// slowGlob is the plainest way to match: row by row, whether the pattern so far matches the text so far.
func slowGlob(p, s []rune) bool {
	row := make([]bool, len(s)+1)
	row[0] = true
	for _, c := range p {
		next := make([]bool, len(s)+1)
		for j := range next {
			switch {
			case c == '*':
				next[j] = row[j] || (j > 0 && next[j-1])
			case j > 0 && (c == '?' || c == s[j-1]):
				next[j] = row[j-1]
			}
		}
		row = next
	}
	return row[len(s)]
}
