package object

import (
	"context"
	"fmt"
	"maps"

	"stemma/timeline"
	"stemma/wal"
)

// BucketOptions are what of a bucket can be changed at any time, and belongs to the bucket
// and not to its content: see Attributes and timeline.Properties.
type BucketOptions struct {
	Attributes
	Expires   wal.LSN // by the store clock; zero: never
	ReadOnly  bool
	Protected bool // from deletion
}

func (o *BucketOptions) properties() (timeline.Properties, error) {
	return timeline.Properties{Attrs: o.encode(), Expires: o.Expires, ReadOnly: o.ReadOnly, Protected: o.Protected}, o.check()
}

// MakeBucket makes an empty bucket with options. Errors: ErrInvalidBucketName,
// ErrBadAttributes, timeline.ErrBadProperties, ErrBucketExists, and those of a commit.
func (s *Service) MakeBucket(ctx context.Context, name string, o *BucketOptions) (timeline.Info, error) {
	if err := checkBucketName(name); err != nil {
		return timeline.Info{}, err
	}
	p, err := o.properties()
	if err != nil {
		return timeline.Info{}, err
	}
	return s.store.CreateBucket(ctx, timeline.NewBucket{Name: name, Properties: p})
}

// ForkMany makes one bucket per name in one commit, each a fork of source as of at, zero being
// the tip, and each with the same options. Nothing is copied. Errors: those of Fork,
// ErrBadAttributes, timeline.ErrBadProperties.
func (s *Service) ForkMany(ctx context.Context, source string, at wal.LSN, names []string, o *BucketOptions) ([]timeline.Info, error) {
	p, err := o.properties()
	if err != nil {
		return nil, err
	}
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
		forks[i].Properties = p
	}
	return s.store.Fork(ctx, timeline.ForkOptions{Source: source, At: at, Forks: forks})
}

// UpdateBucket changes the options of a bucket: change gets a copy of its own to work on.
// Errors: those of change, ErrBadAttributes, timeline.ErrNoSuchBucket, ErrBadProperties,
// ErrCorrupt, and those of a commit.
func (s *Service) UpdateBucket(ctx context.Context, name string, change func(*BucketOptions) error) (wal.LSN, error) {
	if Reserved(name) {
		return 0, fmt.Errorf("bucket %q: %w", name, timeline.ErrNoSuchBucket)
	}
	return s.store.SetProperties(ctx, name, func(old timeline.Properties) (timeline.Properties, error) {
		attrs, err := decodeAttributes(old.Attrs)
		if err != nil {
			return old, err
		}
		o := BucketOptions{Attributes: attrs, Expires: old.Expires, ReadOnly: old.ReadOnly, Protected: old.Protected}
		o.Labels = maps.Clone(o.Labels)
		if err := change(&o); err != nil {
			return old, err
		}
		o.Quota = o.Quota.after(attrs.Quota)
		return o.properties()
	})
}

// RenameBucket gives a bucket another name. Errors: ErrInvalidBucketName, timeline.ErrNoSuchBucket,
// ErrBucketExists, and those of a commit.
func (s *Service) RenameBucket(ctx context.Context, from, to string) (wal.LSN, error) {
	if err := checkBucketName(to); err != nil {
		return 0, err
	}
	if Reserved(from) {
		return 0, fmt.Errorf("bucket %q: %w", from, timeline.ErrNoSuchBucket)
	}
	return s.store.RenameBucket(ctx, from, to)
}
