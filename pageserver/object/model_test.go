package object

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/internal/seeds"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// model drives a service and a plain map with the same operations.
type model struct {
	*harness
	fs       *storefs.MemFS
	rng      *rand.Rand
	buckets  []*naiveBucket
	lsns     []wal.LSN
	forks    int
	encrypts bool // the server, all that it writes
	// refusals are writes that a quota had no room for.
	refusals int
}

func (m *model) anyBucket() *naiveBucket { return m.buckets[m.rng.IntN(len(m.buckets))] }

func (m *model) anyKey() string {
	return fmt.Sprintf("%s/%d", []string{"a", "b", "ünï", "\xff\x00"}[m.rng.IntN(4)], m.rng.IntN(8))
}

// anyLSN returns an LSN that b can be read at; zero is the tip.
func (m *model) anyLSN(b *naiveBucket) wal.LSN {
	if m.rng.IntN(3) == 0 {
		return 0
	}
	i, _ := slices.BinarySearch(m.lsns, b.first())
	return m.lsns[i+m.rng.IntN(len(m.lsns)-i)]
}

func tip(at wal.LSN) wal.LSN {
	if at == 0 {
		return wal.MaxLSN
	}
	return at
}

func (m *model) anyBody() []byte {
	n := m.rng.IntN(200)
	switch m.rng.IntN(8) {
	case 0:
		n = m.rng.IntN(5000)
	case 1:
		n = 32<<10 - 2 + m.rng.IntN(4)
	case 2:
		n = m.rng.IntN(300 << 10)
	}
	return random(m.rng.Uint64(), n)
}

// wrote adds a version.
func (m *model) wrote(b *naiveBucket, key string, v naiveVersion) {
	b.add(key, v)
	m.saw(v.lsn)
}

// stepQuota gives a bucket a quota, most often one that is nearly full, or takes it away.
func (m *model) stepQuota() {
	b := m.anyBucket()
	u, q := b.usage(), Quota{}
	if m.rng.IntN(4) > 0 {
		q.MaxBytes = max(1, u.Bytes+int64(m.rng.IntN(40_000))-1000)
	}
	if m.rng.IntN(3) == 0 {
		q.MaxObjects = max(1, u.Objects+int64(m.rng.IntN(6))-1)
	}
	m.quota(b.name, q.MaxBytes, q.MaxObjects)
	b.quota = q
}

// stepUsage compares what counts for a quota.
func (m *model) stepUsage() {
	b, want := m.anyBucket(), Usage{}
	if b.quota.Any() {
		want = b.usage()
	}
	if used, err := m.QuotaUsage(m.ctx, b.name); err != nil || used != want {
		m.t.Fatalf("%s uses %+v (%v), want %+v of %+v", b.name, used, err, want, b.quota)
	}
}

// refused reports whether a write that would change b so was refused by the quota, and checks that it had to be.
func (m *model) refused(b *naiveBucket, err error, change func(b *naiveBucket)) bool {
	m.t.Helper()
	is, want := errors.Is(err, ErrQuotaExceeded), b.exceeds(change)
	if is != want {
		m.t.Fatalf("%s with a quota of %+v, of which %+v are used: %v, want a refusal: %t", b.name, b.quota, b.usage(), err, want)
	}
	if is {
		m.refusals++
	}
	return is
}

// unmade stands for the LSN of a commit that was refused.
const unmade = wal.MaxLSN - 1

// saw notes a commit.
func (m *model) saw(lsn wal.LSN) {
	if len(m.lsns) == 0 || m.lsns[len(m.lsns)-1] < lsn {
		m.lsns = append(m.lsns, lsn)
	}
}

func (m *model) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) stepPut() {
	b, key, body := m.anyBucket(), m.anyKey(), m.anyBody()
	in := &PutInput{
		Body: bytes.NewReader(body), Size: int64(len(body)), Headers: Headers{ContentType: fmt.Sprint("t/", m.rng.IntN(9))},
		UserMeta: []Field{{"n", fmt.Sprint(m.rng.IntN(9))}}, Checksum: Expect{Algorithm: Algorithm(m.rng.IntN(int(numAlgorithms)))},
	}
	if m.rng.IntN(3) == 0 {
		in.Size = -1
	}
	old, want := b.at(key, wal.MaxLSN), error(nil)
	switch m.rng.IntN(6) {
	case 0:
		if in.Cond.IfNoneMatch = "*"; old != nil {
			want = ErrPreconditionFailed
		}
	case 1:
		in.Cond.IfMatch = `"` + ETag{}.String() + `"`
		if want = ErrPreconditionFailed; old == nil {
			want = ErrNoSuchKey
		}
	case 2:
		if old != nil {
			in.Cond.IfMatch = old.tag.String()
		}
	}
	e, err := m.Put(m.ctx, b.name, key, in)
	larger := func(b *naiveBucket) { b.add(key, naiveVersion{lsn: unmade, body: body}) }
	if want == nil && m.refused(b, err, larger) || errors.Is(err, ErrQuotaExceeded) && b.exceeds(larger) {
		return // of a large body the size is looked at before conditions
	}
	if !errors.Is(err, want) {
		m.t.Fatalf("put %q: %v, want %v", key, err, want)
	}
	if err == nil {
		m.wrote(b, key, naiveVersion{
			lsn: e.LSN, body: body, tag: ETag{Sum: md5.Sum(body)}, typ: in.Headers.ContentType, user: in.UserMeta[0].Value,
			sum: ChecksumOf(defaultAlgorithm(in.Checksum.Algorithm), body),
		})
	}
}

func (m *model) stepCopy() {
	from, to, key := m.anyBucket(), m.anyBucket(), m.anyKey()
	in := &CopyInput{SrcBucket: from.name, SrcKey: m.anyKey(), SrcAt: m.anyLSN(from), StorageClass: Glacier}
	src, gone := from.at(in.SrcKey, tip(in.SrcAt)), ErrNoSuchKey
	if m.rng.IntN(3) == 0 {
		in.SrcVersion = m.anyID(from, in.SrcKey)
		src, gone = from.find(in.SrcKey, in.SrcVersion, tip(in.SrcAt)), ErrNoSuchVersion
	}
	res, err := m.Copy(m.ctx, to.name, key, in)
	if src == nil {
		wantErr(m.t, err, gone)
		return
	}
	if src.marker {
		wantErr(m.t, err, ErrMarker)
		return
	}
	if from == to && in.SrcKey == key && in.SrcAt == 0 && in.SrcVersion == 0 && errors.Is(err, ErrSelfCopy) {
		return // it was a copy already
	}
	v := *src
	v.kept = inheritance{}
	if m.refused(to, err, func(b *naiveBucket) { v := v; v.lsn = unmade; b.add(key, v) }) {
		return
	}
	m.check(err)
	v.lsn = res.LSN
	if v.paged { // no MD5: that of the copy is one of its own
		if v.tag = res.ETag; v.tag == src.tag {
			m.t.Fatalf("copy of %q has the same ETag", in.SrcKey)
		}
	}
	m.wrote(to, key, v)
	if res.SrcLSN != src.lsn {
		m.t.Fatalf("copied version %d, want %d", res.SrcLSN, src.lsn)
	}
}

// stepPages changes an object in place, or makes one.
func (m *model) stepPages() {
	b, key := m.anyBucket(), m.anyKey()
	old := b.at(key, wal.MaxLSN)
	var v naiveVersion
	in := &PageInput{PageBytes: MinPageBytes << m.rng.IntN(3)}
	if old == nil {
		in.Create = &PageCreate{Headers: Headers{ContentType: "pa/ges"}, UserMeta: []Field{{"n", "p"}}}
		v.typ, v.user = "pa/ges", "p"
	} else {
		v.typ, v.user, v.label = old.typ, old.user, old.label
		v.body = old.body
		in.IfMatch = old.tag.String()
	}
	in.Ops = randomOps(m.rng, len(v.body))
	if m.rng.IntN(3) == 0 {
		user := []string{"", "one", "another"}[m.rng.IntN(3)]
		in.Ops, v.user = append(in.Ops, PageOp{Kind: PageMeta, Name: "n", Data: []byte(user)}), user
		if m.rng.IntN(2) == 0 {
			in.Ops = in.Ops[len(in.Ops)-1:] // nothing else
		}
	}
	change := func(b *naiveBucket) { b.replace(key, v) }
	switch {
	case old == nil:
		change = func(b *naiveBucket) { b.add(key, v) }
	case b.base != 0 && old.lsn <= b.base:
		v.kept = inheritance{base: b.base, size: uint64(len(old.body))}
	default:
		v.kept = old.kept
	}
	r, err := m.WritePages(m.ctx, b.name, key, in)
	v.lsn, v.paged, v.body = unmade, true, inPlace(v.body, in.Ops)
	if m.refused(b, err, change) {
		return
	}
	m.check(err)
	v.lsn, v.tag = r.LSN, r.ETag
	if old != nil && in.metaOnly() {
		if v.paged, v.sum = old.paged, old.sum; !v.paged {
			v.tag = old.tag
		}
	}
	change(b)
	m.saw(v.lsn)
}

// stepUpload makes an object of one part, or of part of another object.
func (m *model) stepUpload() {
	b, key := m.anyBucket(), m.anyKey()
	u, err := m.CreateUpload(m.ctx, b.name, key, &UploadInput{Headers: Headers{ContentType: "up/load"}, UserMeta: []Field{{"n", "u"}}, Algorithm: CRC32, ChecksumType: "FULL_OBJECT"})
	m.check(err)
	body := m.anyBody()
	var p *Part
	from := m.anyBucket()
	at := m.anyLSN(from)
	srcKey := m.anyKey()
	if src := from.at(srcKey, tip(at)); src != nil && len(src.body) > 0 && m.rng.IntN(2) == 0 {
		off := m.rng.IntN(len(src.body))
		n := 1 + m.rng.IntN(len(src.body)-off)
		body = src.body[off : off+n]
		p, err = m.CopyPart(m.ctx, b.name, key, u.ID, 1, &CopyPartInput{SrcBucket: from.name, SrcKey: srcKey, SrcAt: at, Range: fmt.Sprintf("bytes=%d-%d", off, off+n-1)})
	} else {
		p, err = m.PutPart(m.ctx, b.name, key, u.ID, 1, &PutPartInput{Body: bytes.NewReader(body), Size: -1})
	}
	m.check(err)
	switch m.rng.IntN(5) {
	case 0:
		m.check(m.AbortUpload(m.ctx, b.name, key, u.ID))
		return
	case 1:
		return // left open
	}
	e, err := m.CompleteUpload(m.ctx, b.name, key, u.ID, &CompleteInput{Parts: []CompletePart{{Number: 1, ETag: p.ETag.String()}}, Size: int64(len(body))})
	if m.refused(b, err, func(b *naiveBucket) { b.add(key, naiveVersion{lsn: unmade, body: body}) }) {
		return
	}
	m.check(err)
	sum := md5.Sum(body)
	m.wrote(b, key, naiveVersion{
		lsn: e.LSN, body: body, tag: ETag{Sum: md5.Sum(sum[:]), Parts: 1}, typ: "up/load", user: "u", sum: ChecksumOf(CRC32, body),
	})
}

func (m *model) stepFork() {
	if len(m.buckets) >= 8 {
		// A parent may go while its forks live.
		i := m.rng.IntN(len(m.buckets))
		_, err := m.DeleteBucket(m.ctx, m.buckets[i].name, timeline.DeleteOptions{Force: true})
		m.check(err)
		m.buckets[i].dropped = m.buckets[i].parent != nil // a root can be undeleted
		m.buckets = slices.Delete(m.buckets, i, i+1)
		return
	}
	src := m.anyBucket()
	at := m.anyLSN(src)
	var names []string
	for range 1 + m.rng.IntN(2) {
		m.forks++
		names = append(names, fmt.Sprintf("fork-%d", m.forks))
	}
	infos, err := m.Fork(m.ctx, src.name, at, names)
	m.check(err)
	parent := src
	for tip(at) < parent.created {
		parent = parent.parent
	}
	for i, name := range names {
		f := src.fork(name, infos[i].Created, tip(at), parent)
		f.base = infos[i].BranchLSN
		m.buckets = append(m.buckets, f)
		m.lsns = append(m.lsns, infos[i].Created)
	}
	slices.Sort(m.lsns)
}

// stepReopen closes the store, or crashes it; acknowledged is acknowledged.
func (m *model) stepReopen() {
	if m.rng.IntN(2) == 0 {
		m.fs = m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: m.rng.IntN(101), RNG: m.rng})
	} else {
		m.check(m.Store().Close())
	}
	m.harness = open(m.t, m.fs, small)
	m.o.EncryptAll = m.encrypts
}

func (m *model) stepRead() {
	b, key := m.anyBucket(), m.anyKey()
	in := GetInput{At: m.anyLSN(b)}
	want := b.at(key, tip(in.At))
	off, n := 0, 0
	if want != nil {
		if n = len(want.body); n > 0 && m.rng.IntN(2) == 0 {
			off = m.rng.IntN(n)
			n = 1 + m.rng.IntN(n-off)
			in.Range = fmt.Sprintf("bytes=%d-%d", off, off+n-1)
		}
	}
	o, body, err := m.get(b.name, key, in)
	if want == nil {
		wantErr(m.t, err, ErrNoSuchKey)
		return
	}
	m.check(err)
	if o.Length != uint64(n) || n < len(want.body) && o.Offset != uint64(off) {
		m.t.Fatalf("%s of %d bytes: %d from %d", in.Range, len(want.body), o.Length, o.Offset)
	}
	m.wantVersion(b, key, in.At, o, body, want)
}

func (m *model) stepList() {
	b := m.anyBucket()
	in := ListInput{At: m.anyLSN(b), MaxKeys: 1 + m.rng.IntN(40)}
	in.Delimiter = []string{"", "/"}[m.rng.IntN(2)]
	in.Prefix = []string{"", "a", "a/", "ü"}[m.rng.IntN(4)]
	m.checkListing(b.name, b.listed(tip(in.At)), in, m.rng.IntN(2) == 0)
}

// Whatever is done to buckets and their forks, every LSN reads what a plain
// map remembers of it.
func TestModel(t *testing.T) { testModel(t, false) }

// The same where all is encrypted, what is written in place, too.
func TestModelEncrypted(t *testing.T) { testModel(t, true) }

func testModel(t *testing.T, encrypts bool) {
	seed := seeds.For(t)
	m := &model{fs: storefs.NewMem(), rng: rand.New(rand.NewPCG(seed, 1)), encrypts: encrypts}
	m.harness = open(t, m.fs, small)
	m.o.EncryptAll = encrypts
	for _, name := range []string{"root-a", "root-b"} {
		info, err := m.CreateBucket(m.ctx, name)
		m.check(err)
		m.buckets = append(m.buckets, &naiveBucket{name: name, created: info.Created, keys: map[string][]naiveState{}})
		m.lsns = append(m.lsns, info.Created)
	}
	steps := []struct {
		weight int
		run    func()
	}{
		{30, m.stepPut}, {24, m.stepDelete}, {8, m.stepCopy}, {6, m.stepRename}, {8, m.stepPick}, {8, m.stepUpload}, {14, m.stepPages}, {3, m.stepFork},
		{1, m.stepReopen}, {2, func() { m.flush() }}, {40, m.stepRead}, {8, m.stepList},
		{1, m.stepVersioning}, {8, m.stepRelabel}, {4, m.stepQuota}, {8, m.stepUsage}, {30, m.stepReadVersion}, {6, m.stepListVersions},
	}
	var deck []func()
	for _, s := range steps {
		for range s.weight {
			deck = append(deck, s.run)
		}
	}
	n := 2500
	if testing.Short() {
		n = 500
	}
	for range n {
		deck[m.rng.IntN(len(deck))]()
	}
	if m.refusals == 0 && !testing.Short() {
		t.Error("no quota was ever full")
	}
	var names []string
	for _, b := range m.buckets {
		names = append(names, b.name)
		m.noOrphans(b.name)
		for range 5 {
			at := m.anyLSN(b)
			m.checkListing(b.name, b.listed(tip(at)), ListInput{At: at, MaxKeys: 1000}, false)
		}
	}
	var got []string
	for _, i := range m.Buckets("", "", 100) {
		got = append(got, i.Name)
	}
	if slices.Sort(names); !slices.Equal(got, names) {
		t.Errorf("buckets %q, want %q", got, names)
	}
}
