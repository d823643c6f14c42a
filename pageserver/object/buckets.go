package object

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// ValidBucketName reports whether S3 lets a bucket have the name: 3 to 63 lower
// case letters, digits, dots and hyphens; letters or digits at both ends and on
// both sides of a dot; no IPv4 address; no prefix or suffix that S3 reserves.
func ValidBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		case c != '.' && c != '-':
			return false
		case i == 0 || i == len(name)-1:
			return false
		case c == '.' && !isAlphanumeric(name[i-1]), name[i-1] == '.':
			return false
		}
	}
	for _, p := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	for _, p := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, p) {
			return false
		}
	}
	_, err := netip.ParseAddr(name)
	return err != nil
}

func isAlphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func checkBucketName(name string) error {
	if !ValidBucketName(name) {
		return fmt.Errorf("bucket name %q: %w", name, ErrInvalidBucketName)
	}
	return nil
}

// CreateBucket makes an empty bucket. Errors: ErrInvalidBucketName,
// timeline.ErrBucketExists, and those of a commit.
func (s *Service) CreateBucket(ctx context.Context, name string) (timeline.Info, error) {
	return s.CreateBucketWith(ctx, name, nil, Attributes{})
}

// CreateBucketWith is CreateBucket of a bucket that has settings from its first commit on;
// nil: none. Errors: also ErrSettingsTooLarge.
func (s *Service) CreateBucketWith(ctx context.Context, name string, set *Settings, attrs Attributes) (timeline.Info, error) {
	if err := checkBucketName(name); err != nil {
		return timeline.Info{}, err
	}
	n := timeline.NewBucket{Name: name, Properties: timeline.Properties{Attrs: attrs.encode()}}
	if set != nil {
		meta, err := encodeSettings(set)
		if err != nil {
			return timeline.Info{}, fmt.Errorf("create bucket %q: %w", name, err)
		}
		n.First = &timeline.Batch{}
		n.First.Put(layers.NamespaceConfig, settingsKey, meta, nil)
	}
	return s.store.CreateBucket(ctx, n)
}

// Fork is ForkWith of forks that the root owns.
func (s *Service) Fork(ctx context.Context, source string, at wal.LSN, names []string) ([]timeline.Info, error) {
	return s.ForkWith(ctx, source, at, names, Attributes{})
}

// ForkWith makes one bucket per name in one commit, each a fork of source as of at;
// zero is the tip. Nothing is copied. Errors: ErrInvalidBucketName,
// timeline.ErrNoSuchBucket, ErrBucketExists, ErrFuture, *BelowHorizonError, and
// those of a commit.
func (s *Service) ForkWith(ctx context.Context, source string, at wal.LSN, names []string, attrs Attributes) ([]timeline.Info, error) {
	for _, name := range names {
		if err := checkBucketName(name); err != nil {
			return nil, err
		}
	}
	if Reserved(source) {
		return nil, fmt.Errorf("fork %q: %w", source, timeline.ErrNoSuchBucket)
	}
	forks := timeline.Named(names...)
	for i := range forks {
		forks[i].Attrs = attrs.encode()
	}
	return s.store.Fork(ctx, timeline.ForkOptions{Source: source, At: at, Forks: forks})
}

// DeleteBucket deletes a bucket with its open uploads; forks of it live on. Unless
// it is forced it refuses one that holds objects or that living forks branch from. One that
// holds locked versions it always refuses; those that a fork inherits stay with its source.
//
// Errors: timeline.ErrNoSuchBucket, ErrBucketNotEmpty, ErrBucketHasForks, ErrLocked, and
// those of a commit.
func (s *Service) DeleteBucket(ctx context.Context, name string, o timeline.DeleteOptions) (wal.LSN, error) {
	if !o.Force {
		info, err := s.store.Bucket(name, 0)
		if err != nil {
			return 0, err
		}
		if info.HasForks {
			return 0, fmt.Errorf("delete bucket %q: %w", name, ErrBucketHasForks)
		}
	}
	o.Refuse = func(v *timeline.View) error { return s.CheckUnlocked(v, v.Info().BranchLSN) }
	return s.store.DeleteBucket(ctx, name, o)
}

// Bucket describes a bucket as of at; zero is the tip. Errors:
// timeline.ErrNoSuchBucket.
func (s *Service) Bucket(name string, at wal.LSN) (timeline.Info, error) {
	if Reserved(name) {
		return timeline.Info{}, fmt.Errorf("bucket %q: %w", name, timeline.ErrNoSuchBucket)
	}
	return s.store.Bucket(name, at)
}

// Buckets lists at most limit buckets by name, those with the prefix and above after.
func (s *Service) Buckets(prefix, after string, limit int) []timeline.Info {
	return s.store.Buckets(prefix, max(after, reservedEnd), limit)
}

// reservedEnd lies above all reserved names and below all others.
const reservedEnd = "/"

// Reserved reports whether a bucket of the name would be the server's own: whoever
// comes from outside must be told that there is none.
func Reserved(name string) bool { return strings.HasPrefix(name, ".") }
