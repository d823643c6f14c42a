package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// partBytes is the least size of a part in tests.
const partBytes = 80 << 10

// skipLong skips, in short mode, what takes long and is about nothing concurrent: make
// test runs it without the race detector alone.
func skipLong(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("long")
	}
}

// watch fails the test when the store has something to say.
type watch struct {
	slog.Handler
	t testing.TB
}

func (*watch) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (w *watch) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w *watch) Handle(_ context.Context, r slog.Record) error {
	var s strings.Builder
	r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&s, " %v", a); return true })
	w.t.Errorf("the store says: %s%s", r.Message, s.String())
	return nil
}

// harness is a service on a file system in memory.
type harness struct {
	*Service
	t   testing.TB
	ctx context.Context
}

// small makes flushes and full segments come soon.
func small(o *timeline.Options) {
	o.MemlayerBytes, o.WALSegmentBytes, o.LayerBytes, o.Level1Bytes = 64<<10, 1<<20, 32<<10, 64<<10
}

func open(t testing.TB, fs vfs.FS, tune ...func(*timeline.Options)) *harness {
	t.Helper()
	// No horizon by itself: a test that says that nothing was committed means it.
	o := timeline.Options{FS: fs, Dir: "data", WALSegmentBytes: 4 << 20, Logger: slog.New(&watch{t: t}), HorizonEvery: time.Hour}
	for _, f := range tune {
		f(&o)
	}
	store, err := timeline.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &harness{Service: New(store, Options{MinPartBytes: partBytes, Keys: testRing()}), t: t, ctx: context.Background()}
	t.Cleanup(h.Close)
	return h
}

// start opens a store with a bucket named "home".
func start(t testing.TB, tune ...func(*timeline.Options)) *harness {
	t.Helper()
	h := open(t, storefs.NewMem(), tune...)
	h.bucket("home")
	return h
}

func (h *harness) bucket(name string) {
	h.t.Helper()
	if _, err := h.CreateBucket(h.ctx, name); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) put(bucket, key string, body []byte) *Entry {
	h.t.Helper()
	e, err := h.Put(h.ctx, bucket, key, &PutInput{Body: bytes.NewReader(body), Size: int64(len(body))})
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// get reads an object whole.
func (h *harness) get(bucket, key string, in GetInput) (*Object, []byte, error) {
	h.t.Helper()
	o, err := h.Get(h.ctx, bucket, key, &in)
	if err != nil {
		return nil, nil, err
	}
	defer o.Body.Close()
	body, err := io.ReadAll(o.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if uint64(len(body)) != o.Length {
		h.t.Fatalf("%q: %d bytes, Length says %d", key, len(body), o.Length)
	}
	return o, body, nil
}

func (h *harness) want(bucket, key string, at wal.LSN, want []byte) *Object {
	h.t.Helper()
	o, got, err := h.get(bucket, key, GetInput{At: at})
	if err != nil {
		h.t.Fatalf("get %q at %d: %v", key, at, err)
	}
	if !bytes.Equal(got, want) {
		h.t.Fatalf("get %q at %d: %d bytes, want %d others", key, at, len(got), len(want))
	}
	return o
}

func (h *harness) wantAbsent(bucket, key string, at wal.LSN) {
	h.t.Helper()
	if _, err := h.Head(h.ctx, bucket, key, &GetInput{At: at}); !errors.Is(err, ErrNoSuchKey) {
		h.t.Fatalf("head %q at %d: %v", key, at, err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// random returns n bytes of a seed.
func random(seed uint64, n int) []byte {
	p := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	src.Read(p)
	return p
}

// Bodies of all kinds of sizes come back, with what belongs to them.
func TestPutGet(t *testing.T) {
	h := start(t)
	for _, n := range []int{0, 1, 1000, 32<<10 - 1, 32 << 10, 32<<10 + 1, 256 << 10, 1<<20 + 17, 3 << 20} {
		for _, size := range []int64{int64(n), -1} {
			body, key := random(uint64(n), n), fmt.Sprintf("size-%d-%d", n, size)
			in := &PutInput{
				// Readers may return little, and the end with the last bytes or later.
				Body: iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(body))), Size: size,
				Headers: Headers{ContentType: "x/y", CacheControl: "no-cache"}, UserMeta: []Field{{"b", "1"}, {"a", "2"}},
				StorageClass: Glacier, Checksum: Expect{Algorithm: SHA256},
			}
			sum := md5.Sum(body)
			in.ContentMD5 = sum[:]
			e, err := h.Put(h.ctx, "home", key, in)
			if err != nil {
				t.Fatal(err)
			}
			o := h.want("home", key, 0, body)
			for _, got := range []*Entry{e, &o.Entry} {
				if got.Size != uint64(n) || got.ETag.String() != fmt.Sprintf("%x", sum) || got.Checksum.Algorithm != SHA256 ||
					got.Headers != in.Headers || !slices.Equal(got.UserMeta, in.UserMeta) || got.StorageClass != Glacier || got.LSN != e.LSN {
					t.Errorf("%s: entry %+v", key, got)
				}
			}
			if _, inMemory := o.Body.Bytes(); inMemory != (n < 32<<10) {
				t.Errorf("%s: body in memory: %t", key, inMemory)
			}
			head, err := h.Head(h.ctx, "home", key, &GetInput{})
			if err != nil || head.Body != nil || head.Length != uint64(n) || head.Checksum != e.Checksum {
				t.Errorf("%s: head %+v, %v", key, head, err)
			}
		}
	}
}

// A body can be written out as well as read, and only until it is closed.
func TestReader(t *testing.T) {
	h := start(t)
	for _, n := range []int{0, 10, 700 << 10} {
		body := random(7, n)
		h.put("home", "k", body)
		o, err := h.Get(h.ctx, "home", "k", &GetInput{})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if m, err := o.Body.WriteTo(&b); err != nil || m != int64(n) || !bytes.Equal(b.Bytes(), body) {
			t.Errorf("wrote %d of %d bytes, %v", m, n, err)
		}
		if m, err := o.Body.Read(make([]byte, 1)); m != 0 || err != io.EOF {
			t.Errorf("read after the end: %d, %v", m, err)
		}
		for range 2 {
			if err := o.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := o.Body.Read(make([]byte, 1)); n > 0 && (err == nil || err == io.EOF) {
			t.Errorf("read after close: %v", err)
		}
	}
}

// What is wrong with a body is told, and nothing becomes visible.
func TestPutRefused(t *testing.T) {
	h := start(t)
	h.Service.o.MaxPutBytes = 4 << 20
	boom := errors.New("boom")
	for _, n := range []int{100, 100 << 10} {
		body := random(1, n)
		reader := func() io.Reader { return bytes.NewReader(body) }
		var right summer
		right.reset(CRC32)
		right.write(body)
		wrong := Checksum{Algorithm: CRC32, Sum: [64]byte{1}}
		for name, c := range map[string]struct {
			in   PutInput
			want error
		}{
			"short":          {PutInput{Body: reader(), Size: int64(n) + 1}, ErrIncompleteBody},
			"long":           {PutInput{Body: reader(), Size: int64(n) - 1}, ErrIncompleteBody},
			"much too long":  {PutInput{Body: reader(), Size: 5}, ErrIncompleteBody},
			"reader fails":   {PutInput{Body: io.MultiReader(reader(), iotest.ErrReader(boom)), Size: int64(n)}, boom},
			"connection":     {PutInput{Body: io.MultiReader(bytes.NewReader(body[:n/2]), iotest.ErrReader(io.ErrUnexpectedEOF)), Size: -1}, io.ErrUnexpectedEOF},
			"stuck":          {PutInput{Body: stuckReader{}, Size: int64(n)}, io.ErrNoProgress},
			"MD5":            {PutInput{Body: reader(), Size: int64(n), ContentMD5: make([]byte, 16)}, ErrBadDigest},
			"short MD5":      {PutInput{Body: reader(), Size: int64(n), ContentMD5: make([]byte, 15)}, ErrInvalidDigest},
			"checksum":       {PutInput{Body: reader(), Size: int64(n), Checksum: Expect{Algorithm: CRC32, Value: wrong}}, ErrBadDigest},
			"other checksum": {PutInput{Body: reader(), Size: int64(n), Checksum: Expect{Algorithm: SHA1, Value: right.sum()}}, ErrInvalidChecksum},
			"trailer": {PutInput{Body: reader(), Size: -1, Checksum: Expect{Algorithm: CRC32, Trailer: func() (Checksum, error) { return wrong, nil }}},
				ErrBadDigest},
			"bad trailer": {PutInput{Body: reader(), Size: -1, Checksum: Expect{Algorithm: CRC32, Trailer: func() (Checksum, error) { return Checksum{}, boom }}},
				boom},
			"promised too large": {PutInput{Body: reader(), Size: 4<<20 + 1}, ErrEntityTooLarge},
			"too large":          {PutInput{Body: io.LimitReader(zeros{}, 4<<20+1), Size: -1}, ErrEntityTooLarge},
			"if match":           {PutInput{Body: reader(), Size: int64(n), Cond: Conditions{IfMatch: `"x"`}}, ErrNoSuchKey},
			"metadata":           {PutInput{Body: reader(), Size: int64(n), UserMeta: []Field{{"k", strings.Repeat("v", 2048)}}}, ErrMetadataTooLarge},
			"class":              {PutInput{Body: reader(), Size: int64(n), StorageClass: 200}, ErrInvalidStorageClass},
		} {
			before := h.Store().Visible()
			if _, err := h.Put(h.ctx, "home", "k", &c.in); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			h.wantAbsent("home", "k", 0)
			if after := h.Store().Visible(); after != before {
				t.Errorf("%s: committed", name)
			}
		}
		// Twins that go well.
		for _, in := range []PutInput{
			{Body: reader(), Size: int64(n), Checksum: Expect{Algorithm: CRC32, Value: right.sum()}},
			{Body: reader(), Size: -1, Checksum: Expect{Algorithm: CRC32, Trailer: func() (Checksum, error) { return right.sum(), nil }}},
			{Body: io.LimitReader(zeros{}, 4<<20), Size: -1},
			{Size: 0},
		} {
			if _, err := h.Put(h.ctx, "home", "k", &in); err != nil {
				t.Error(err)
			}
		}
		if _, err := h.Delete(h.ctx, "home", DeleteKey{Key: "k"}); err != nil {
			t.Error(err)
		}
	}
	_, err := h.Put(h.ctx, "home", strings.Repeat("k", 1025), &PutInput{})
	wantErr(t, err, ErrKeyTooLong)
	_, err = h.Get(h.ctx, "home", strings.Repeat("k", 1025), &GetInput{})
	wantErr(t, err, ErrKeyTooLong)
	_, err = h.Put(h.ctx, "home", "", &PutInput{})
	wantErr(t, err, ErrKeyTooLong)
	for _, n := range []int{1, 100 << 10} {
		_, err = h.Put(h.ctx, "nobody", "k", &PutInput{Body: io.LimitReader(zeros{}, int64(n)), Size: int64(n)})
		wantErr(t, err, timeline.ErrNoSuchBucket)
	}
	// Nobody keeps what was given up.
	if err := h.Store().Values().SealIdle(0); err != nil {
		t.Fatal(err)
	}
	for _, seg := range h.Store().Values().Segments() {
		if seg.Holds != 0 {
			t.Errorf("segment %+v is still held", seg)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestConditionalWrites(t *testing.T) {
	h := start(t)
	put := func(cond Conditions) error {
		_, err := h.Put(h.ctx, "home", "k", &PutInput{Body: strings.NewReader("x"), Size: 1, Cond: cond})
		return err
	}
	tag := `"9dd4e461268c8034f5c8564e155c67a6"` // MD5 of x
	wantErr(t, put(Conditions{IfMatch: tag}), ErrNoSuchKey)
	wantErr(t, put(Conditions{IfNoneMatch: "*"}), nil)
	wantErr(t, put(Conditions{IfNoneMatch: "*"}), ErrPreconditionFailed)
	wantErr(t, put(Conditions{IfMatch: `""`}), ErrPreconditionFailed)
	wantErr(t, put(Conditions{IfMatch: tag}), nil)
	wantErr(t, put(Conditions{IfMatch: "*"}), nil)
	wantErr(t, put(Conditions{IfMatch: `"0"`}), ErrPreconditionFailed)
	wantErr(t, put(Conditions{IfNoneMatch: tag}), ErrPreconditionFailed)
	wantErr(t, put(Conditions{IfNoneMatch: `"0"`}), nil)
	wantErr(t, put(Conditions{IfNoneMatch: `""`}), ErrNotImplemented)
	e, err := h.Head(h.ctx, "home", "k", &GetInput{})
	if err != nil {
		t.Fatal(err)
	}
	one, two := uint64(1), uint64(2)
	for _, cond := range []Conditions{
		{MatchSize: &two}, {MatchModified: e.Modified().Add(-time.Second)}, {IfMatch: tag, MatchSize: &two},
	} {
		_, err := h.Delete(h.ctx, "home", DeleteKey{Key: "k", Cond: cond})
		wantErr(t, err, ErrPreconditionFailed)
		_, err = h.Delete(h.ctx, "home", DeleteKey{Key: "nothing", Cond: cond})
		wantErr(t, err, nil)
	}
	_, err = h.Delete(h.ctx, "home", DeleteKey{Key: "k", Cond: Conditions{MatchSize: &one, MatchModified: e.Modified(), IfMatch: tag}})
	wantErr(t, err, nil)
	wantErr(t, put(Conditions{IfNoneMatch: tag}), nil)
	_, err = h.Delete(h.ctx, "home", DeleteKey{Key: "k", Cond: Conditions{IfMatch: `"0"`}})
	wantErr(t, err, ErrPreconditionFailed)
	_, err = h.Delete(h.ctx, "home", DeleteKey{Key: "k", Cond: Conditions{IfMatch: tag}})
	wantErr(t, err, nil)
	h.wantAbsent("home", "k", 0)
	wantErr(t, put(Conditions{IfMatch: `""`}), nil)
}

// Of many who create a key only if it is not there, one does; of many who
// replace what they have seen, each loses no update.
func TestConditionalRace(t *testing.T) {
	h := start(t)
	created, counted := make(chan bool), make(chan bool)
	for i := range 8 {
		go func() {
			_, err := h.Put(h.ctx, "home", "once", &PutInput{Body: bytes.NewReader([]byte{byte(i)}), Size: 1, Cond: Conditions{IfNoneMatch: "*"}})
			if err != nil && !errors.Is(err, ErrPreconditionFailed) {
				t.Error(err)
			}
			created <- err == nil
		}()
		go func() {
			for done := 0; done < 5; {
				old, oldBody, err := h.get("home", "count", GetInput{})
				cond := Conditions{IfNoneMatch: "*"}
				if err == nil {
					cond = Conditions{IfMatch: `"` + old.ETag.String() + `"`}
				}
				body := append(oldBody, 'x')
				_, err = h.Put(h.ctx, "home", "count", &PutInput{Body: bytes.NewReader(body), Size: int64(len(body)), Cond: cond})
				if err == nil {
					done++
				} else if !errors.Is(err, ErrPreconditionFailed) {
					t.Error(err)
					break
				}
			}
			counted <- true
		}()
	}
	n := 0
	for range 8 {
		if <-created {
			n++
		}
		<-counted
	}
	if n != 1 {
		t.Errorf("%d created the key", n)
	}
	h.want("home", "count", 0, bytes.Repeat([]byte{'x'}, 40))
}

func TestGetRangeAndConditions(t *testing.T) {
	h := start(t)
	for _, n := range []int{1000, 700 << 10} {
		body := random(3, n)
		e := h.put("home", "k", body)
		for header, want := range map[string][2]int{
			"bytes=10-19": {10, 20}, "bytes=10-": {10, n}, "bytes=-10": {n - 10, n}, "bytes=0-999999999": {0, n},
			fmt.Sprintf("bytes=%d-", n-1): {n - 1, n}, "bytes=500-999": {500, 1000},
		} {
			o, got, err := h.get("home", "k", GetInput{Range: header})
			if err != nil || !bytes.Equal(got, body[want[0]:want[1]]) || !o.Partial || o.Size != uint64(n) || o.Offset != uint64(want[0]) {
				t.Errorf("%s of %d: %d bytes at %d, %v", header, n, len(got), o.Offset, err)
			}
		}
		o, got, err := h.get("home", "k", GetInput{Range: "bytes=1-2,5-6"})
		if err != nil || o.Partial || !bytes.Equal(got, body) {
			t.Errorf("two ranges of %d: %d bytes, %v", n, len(got), err)
		}
		_, _, err = h.get("home", "k", GetInput{Range: fmt.Sprintf("bytes=%d-", n)})
		wantErr(t, err, ErrInvalidRange)
		_, _, err = h.get("home", "k", GetInput{Range: "bytes=0-", PartNumber: 1})
		wantErr(t, err, ErrRangeAndPart)
		o, got, err = h.get("home", "k", GetInput{PartNumber: 1})
		if err != nil || !o.Partial || !bytes.Equal(got, body) {
			t.Errorf("part 1 of %d: %d bytes, %v", n, len(got), err)
		}
		_, _, err = h.get("home", "k", GetInput{PartNumber: 2})
		wantErr(t, err, ErrInvalidPartNumber)
		_, _, err = h.get("home", "k", GetInput{Cond: Conditions{IfNoneMatch: "*"}})
		var not *NotModifiedError
		if !errors.As(err, &not) || not.Entry.ETag != e.ETag {
			t.Errorf("not modified: %v", err)
		}
		_, _, err = h.get("home", "k", GetInput{Cond: Conditions{IfMatch: "x"}})
		wantErr(t, err, ErrPreconditionFailed)
	}
}

// A reader that was opened goes on after its object is gone.
func TestReadAfterDelete(t *testing.T) {
	h := start(t, small)
	body := random(4, 2<<20)
	e := h.put("home", "k", body)
	o, err := h.Get(h.ctx, "home", "k", &GetInput{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	if _, err := h.Delete(h.ctx, "home", DeleteKey{Key: "k"}); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(o.Body); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	h.wantAbsent("home", "k", 0)
	h.want("home", "k", e.LSN, body)
}

func TestDelete(t *testing.T) {
	skipLong(t)
	h := start(t)
	before := h.Store().Visible()
	res, err := h.Delete(h.ctx, "home", DeleteKey{Key: "nothing"})
	if err != nil || res.Existed || h.Store().Visible() != before {
		t.Errorf("delete of nothing: %+v, %v", res, err)
	}
	var keys []DeleteKey
	for i := range 500 {
		key := fmt.Sprint(i)
		h.put("home", key, []byte(key))
		keys = append(keys, DeleteKey{Key: key}, DeleteKey{Key: "not " + key})
	}
	full := h.Store().Visible()
	keys[0].Cond.IfMatch = `"x"`
	keys[1].Key = strings.Repeat("k", 1025)
	results, lsn, err := h.DeleteMany(h.ctx, "home", keys)
	if err != nil || lsn != h.Store().Visible() {
		t.Fatalf("delete many at %d: %v", lsn, err)
	}
	for i := range results {
		err := results[i].Err
		switch i {
		case 0:
			wantErr(t, err, ErrPreconditionFailed)
		case 1:
			wantErr(t, err, ErrKeyTooLong)
		default:
			wantErr(t, err, nil)
		}
	}
	// All at one LSN.
	for at, n := range map[wal.LSN]int{full: 500, lsn - 1: 500, lsn: 1} {
		l, err := h.List(h.ctx, "home", &ListInput{At: at, MaxKeys: 1000})
		if err != nil || len(l.Entries) != n || l.Truncated {
			t.Errorf("at %d: %d keys, %v", at, len(l.Entries), err)
		}
	}
	_, _, err = h.DeleteMany(h.ctx, "home", make([]DeleteKey, 1001))
	wantErr(t, err, ErrTooManyKeys)
	_, _, err = h.DeleteMany(h.ctx, "nobody", keys[:1])
	wantErr(t, err, timeline.ErrNoSuchBucket)
	// The same key twice is gone once.
	results, _, err = h.DeleteMany(h.ctx, "home", []DeleteKey{{Key: "0"}, {Key: "0"}})
	if err != nil || results[0].Err != nil || results[1].Err != nil {
		t.Errorf("twice: %+v, %v", results, err)
	}
	h.wantAbsent("home", "0", 0)
}

func TestBuckets(t *testing.T) {
	h := start(t)
	_, err := h.CreateBucket(h.ctx, "home")
	wantErr(t, err, timeline.ErrBucketExists)
	_, err = h.CreateBucket(h.ctx, "No")
	wantErr(t, err, ErrInvalidBucketName)
	_, err = h.Fork(h.ctx, "home", 0, []string{"fork-a", "No"})
	wantErr(t, err, ErrInvalidBucketName)
	h.put("home", "k", []byte("old"))
	at := h.Store().Visible()
	h.put("home", "k", []byte("new"))
	up, err := h.CreateUpload(h.ctx, "home", "big", &UploadInput{})
	if err != nil {
		t.Fatal(err)
	}
	infos, err := h.Fork(h.ctx, "home", at, []string{"fork-a", "fork-b"})
	if err != nil || len(infos) != 2 || infos[0].SourceName != "home" {
		t.Fatalf("fork: %+v, %v", infos, err)
	}
	if _, err := h.Fork(h.ctx, "fork-a", 0, []string{"fork-c"}); err != nil {
		t.Fatal(err)
	}
	h.put("fork-a", "k", []byte("mine"))
	h.want("home", "k", 0, []byte("new"))
	h.want("fork-a", "k", 0, []byte("mine"))
	h.want("fork-b", "k", 0, []byte("old"))
	h.want("fork-c", "k", 0, []byte("old"))
	// A fork has none of the uploads.
	if _, err := h.PutPart(h.ctx, "fork-b", "big", up.ID, 1, &PutPartInput{}); !errors.Is(err, ErrNoSuchUpload) {
		t.Errorf("part in a fork: %v", err)
	}
	if l, err := h.ListUploads(h.ctx, "fork-b", &ListUploadsInput{Max: 10}); err != nil || len(l.Uploads) != 0 {
		t.Errorf("uploads in a fork: %+v, %v", l, err)
	}
	var names []string
	for _, info := range h.Buckets("", "", 10) {
		names = append(names, info.Name)
	}
	if want := []string{"fork-a", "fork-b", "fork-c", "home"}; !slices.Equal(names, want) {
		t.Errorf("buckets %q", names)
	}
	_, err = h.DeleteBucket(h.ctx, "fork-c", timeline.DeleteOptions{})
	wantErr(t, err, timeline.ErrBucketNotEmpty)
	_, err = h.Delete(h.ctx, "fork-c", DeleteKey{Key: "k"})
	wantErr(t, err, nil)
	_, err = h.DeleteBucket(h.ctx, "fork-c", timeline.DeleteOptions{})
	wantErr(t, err, nil)
	_, err = h.Delete(h.ctx, "home", DeleteKey{Key: "k"})
	wantErr(t, err, nil)
	_, err = h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{})
	wantErr(t, err, ErrBucketHasForks)
	wantErr(t, err, timeline.ErrBucketNotEmpty)
	_, err = h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{Force: true})
	wantErr(t, err, nil)
	_, err = h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{})
	wantErr(t, err, timeline.ErrNoSuchBucket)
	h.want("fork-b", "k", 0, []byte("old"))
	// A bucket of the same name has nothing of the old one, and an open upload
	// keeps no bucket alive.
	h.bucket("home")
	if _, err := h.PutPart(h.ctx, "home", "big", up.ID, 1, &PutPartInput{}); !errors.Is(err, ErrNoSuchUpload) {
		t.Errorf("part in a new bucket: %v", err)
	}
	if _, err := h.CreateUpload(h.ctx, "home", "big", &UploadInput{}); err != nil {
		t.Fatal(err)
	}
	_, err = h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{})
	wantErr(t, err, nil)
}

// A disk that fails under a streamed body makes the put fail, no more.
func TestValueFault(t *testing.T) {
	skipLong(t)
	mem := storefs.NewMem()
	fs := &failingFS{FS: mem}
	h := open(t, fs)
	h.bucket("home")
	h.put("home", "k", []byte("old"))
	body := random(5, 3<<20)
	for _, what := range []string{"write", "sync"} {
		fs.fail = what
		_, err := h.Put(h.ctx, "home", "k", &PutInput{Body: bytes.NewReader(body), Size: int64(len(body))})
		wantErr(t, err, errDisk)
		h.want("home", "k", 0, []byte("old"))
		fs.fail = ""
		h.put("home", "other", body)
		h.want("home", "other", 0, body)
	}
}

var errDisk = errors.New("disk on fire")

// failingFS fails calls on value segments.
type failingFS struct {
	vfs.FS
	fail string
}

// Unwrap leads storefs to the file system below.
func (fs *failingFS) Unwrap() vfs.FS { return fs.FS }

func (fs *failingFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, c, o...)
	if err != nil || !strings.HasSuffix(name, ".val") {
		return f, err
	}
	return &failingFile{f, fs}, nil
}

type failingFile struct {
	vfs.File
	fs *failingFS
}

func (f *failingFile) call(what string) error {
	if f.fs.fail == what {
		return errDisk
	}
	return nil
}

func (f *failingFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.call("write"); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *failingFile) Sync() error {
	if err := f.call("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *failingFile) SyncData() error {
	if err := f.call("sync"); err != nil {
		return err
	}
	return f.File.SyncData()
}

// Bodies that are uploaded at the same time, enough of them to be summed side by
// side, have the MD5 that they have alone.
func TestConcurrentUploadsHaveTheirMD5(t *testing.T) {
	h := start(t)
	var wg sync.WaitGroup
	for i := range 3 * lanesFrom {
		wg.Go(func() {
			body := random(uint64(i), laneBytes-3+i*100_001)
			pieces := iotest.HalfReader(bytes.NewReader(body))
			e, err := h.Put(h.ctx, "home", fmt.Sprint("k", i), &PutInput{Body: pieces, Size: int64(len(body))})
			if err != nil {
				t.Error(err)
				return
			}
			if want := md5.Sum(body); e.ETag.Sum != want {
				t.Errorf("MD5 %x of %d bytes, want %x", e.ETag.Sum, len(body), want)
			}
		})
	}
	wg.Wait()
	if n := h.Service.lanes.uploads.Load(); n != 0 {
		t.Errorf("%d uploads are under way", n)
	}
}
