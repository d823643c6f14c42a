package object

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"stemma/layers"
	"stemma/pageserver/keyring"
	"stemma/timeline"
)

// Options of a Service. Zero values take the defaults named.
type Options struct {
	// MaxInlineBytes is the size from which bodies are streamed to value segments
	// instead of riding in the log. Default 32 KiB.
	MaxInlineBytes int
	// MinPartBytes is the least size of a part that is not the last of its upload.
	// Default MinPartBytes, 5 MiB, as S3 has it.
	MinPartBytes int64
	// MaxPutBytes bounds the body of one Put. Default 5 GiB.
	MaxPutBytes int64

	// Keys are the master keys that data keys are sealed by. Nil: nothing can be encrypted.
	Keys *keyring.Ring
	// KMSKeys are the keys of SSE-KMS, by name. Nil: every name is that of a key, which
	// depends on the master key.
	KMSKeys *keyring.Ring
	// DefaultKMSKey is the key of SSE-KMS when none is named. Empty: that is refused.
	DefaultKMSKey string
	// EncryptAll encrypts by SSE-S3 what neither the request nor the bucket says otherwise of.
	EncryptAll bool
}

// Service is S3 over one store. It keeps no state of its own but what can be had again from that.
// Close it when nobody uses it any more. Safe for concurrent use.
type Service struct {
	store    *timeline.Store
	values   *layers.Values
	o        Options
	streamed atomic.Int64 // see StreamedBytes
	lanes    md5Lanes

	settingsCache settingsCache
	attributes    attributesCache
	settingsTips  settingsTips
	meters        meters
	masks         maskCiphers

	pageFiles atomic.Uint32 // see newFileID
	baseLists baseLists
}

// New returns the service of a store, which must outlive it; one per store.
func New(store *timeline.Store, o Options) *Service {
	if o.MaxInlineBytes <= 0 {
		o.MaxInlineBytes = 32 << 10
	}
	if o.MinPartBytes <= 0 {
		o.MinPartBytes = MinPartBytes
	}
	if o.MaxPutBytes <= 0 {
		o.MaxPutBytes = 5 << 30
	}
	s := &Service{store: store, values: store.Values(), o: o}
	s.meters.init()
	store.SetAdmission(s.admit)
	return s
}

// Close stops what the service has started. The store stays open.
func (s *Service) Close() {
	s.meters.close()
	s.lanes.close()
}

// EncryptsAll reports whether Options.EncryptAll is set.
func (s *Service) EncryptsAll() bool { return s.o.EncryptAll }

// StreamedBytes returns how many bytes of bodies went to value segments as they
// arrived, those of writes that failed included, since New.
func (s *Service) StreamedBytes() int64 { return s.streamed.Load() }

// Store returns what New was given.
func (s *Service) Store() *timeline.Store { return s.store }

// now is the time by the store clock.
func (s *Service) now() time.Time { return s.store.Now().Time() }

// PastPrefix is what no key begins with: clients that can set no header read the past by it.
const PastPrefix = ".snapshot/"

func checkKey(key string) error {
	if len(key) == 0 || len(key) > MaxKeyBytes {
		return fmt.Errorf("key of %d bytes: %w", len(key), ErrKeyTooLong)
	}
	if strings.HasPrefix(key, PastPrefix) {
		return fmt.Errorf("key %q: %w", key, ErrReservedKey)
	}
	return nil
}
