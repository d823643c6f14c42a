package object

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Limits of tags, in UTF-16 units as S3 counts characters.
const (
	MaxObjectTags    = 10
	MaxBucketTags    = 50
	maxTagKeyChars   = 128
	maxTagValueChars = 256
)

// CheckObjectTags checks the tags of an object. Errors: *RuleError of InvalidTag.
func CheckObjectTags(tags []Field) error {
	if len(tags) > MaxObjectTags {
		return &RuleError{"InvalidTag", fmt.Sprintf("Object tags cannot be greater than %d", MaxObjectTags)}
	}
	return checkTags(tags)
}

// CheckBucketTags checks the tags of a bucket. Errors: *RuleError of InvalidTag or BadRequest.
func CheckBucketTags(tags []Field) error {
	if len(tags) > MaxBucketTags {
		return &RuleError{"BadRequest", fmt.Sprintf("Bucket tag count cannot be greater than %d", MaxBucketTags)}
	}
	return checkTags(tags)
}

func checkTags(tags []Field) error {
	for i, t := range tags {
		switch n := utf16Len(t.Key); {
		case n == 0 || n > maxTagKeyChars || !validTag(t.Key):
			return &RuleError{"InvalidTag", "The TagKey you have provided is invalid"}
		case len(t.Key) >= 4 && strings.EqualFold(t.Key[:4], "aws:"):
			return &RuleError{"InvalidTag", "System tags cannot be added/updated by requester"}
		case utf16Len(t.Value) > maxTagValueChars || !validTag(t.Value):
			return &RuleError{"InvalidTag", "The TagValue you have provided is invalid"}
		}
		for j := range tags[:i] {
			if tags[j].Key == t.Key {
				return &RuleError{"InvalidTag", "Cannot provide multiple Tags with the same key"}
			}
		}
	}
	return nil
}

func utf16Len(s string) (n int) {
	for _, r := range s {
		n += max(1, utf16.RuneLen(r))
	}
	return n
}

// validTag reports whether s has only what S3 lets be in a tag: letters, numbers,
// spaces and a few signs.
func validTag(s string) bool {
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.Is(unicode.Z, r) && !strings.ContainsRune("_.:/=+-@", r) {
			return false
		}
	}
	return true
}

// SortTags puts tags in the order that an Entry has them in.
func SortTags(tags []Field) {
	slices.SortFunc(tags, func(a, b Field) int { return strings.Compare(a.Key, b.Key) })
}

// SetTags replaces the tags of an object; none removes them. The version that it
// is stays the same; id zero is the current one. It returns the entry as it is now, and the
// commit as its At. Errors: *RuleError, and those of a read and of a commit.
func (s *Service) SetTags(ctx context.Context, bucket, key string, id VersionID, tags []Field) (*Object, error) {
	if err := CheckObjectTags(tags); err != nil {
		return nil, err
	}
	tags = slices.Clone(tags)
	SortTags(tags)
	return s.changeEntry(ctx, bucket, key, id, func(_ *Settings, e *Entry) error {
		e.Tags = tags
		return nil
	})
}

// RuleError says what is wrong with a configuration, or with tags, in the words of S3.
type RuleError struct {
	Code    string // of S3
	Message string
}

func (e *RuleError) Error() string { return e.Code + ": " + e.Message }
