package object

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// LogKind says what a commit did to a key.
type LogKind string

// The kinds.
const (
	LogPut           LogKind = "put"            // a new version
	LogWrite         LogKind = "write"          // written in place
	LogMetadata      LogKind = "metadata"       // tags, class, lock or ACL of the version were changed
	LogDelete        LogKind = "delete"         // the object was removed
	LogMarker        LogKind = "marker"         // deleted, with a delete marker
	LogDeleteVersion LogKind = "delete-version" // a version or marker was removed by its id
	LogCurrent       LogKind = "current"        // the version is current again: newer ones were removed
	LogMove          LogKind = "move"           // the bucket as a whole became something else; no key
)

// LogEntry is what one commit did to a key.
type LogEntry struct {
	LSN  wal.LSN
	Kind LogKind
	Key  string
	// Version is the version that it was done to or that was made; zero of LogDelete and LogMove.
	Version wal.LSN
	ID      VersionID // of that version; NullVersion where the bucket keeps none
	Size    uint64    // of what is there from then on, or of the version
	ETag    ETag
	Class   StorageClass
	Writer  uint32 // who made the commit, see timeline.WithWriter; zero of LogMove
}

// LogInput says which part of a log is wanted.
type LogInput struct {
	Bucket string
	// Entries lie above From, and at or below To; a zero To is the tip.
	From, To wal.LSN
	Prefix   string
	Oldest   bool   // oldest first, else newest
	Token    string // NextToken of the page before; decides To
	// Max bounds the commits of keys on the page; zero or more than MaxLogEntries: that many.
	Max int
}

// MaxLogEntries is the most that one page of a log has, but for what one commit did to one key.
const MaxLogEntries = 8192

// LogPage is one page of a log: by LSN, and within a commit by key.
type LogPage struct {
	Entries []LogEntry
	To      wal.LSN
	// Since is the LSN above which the log is complete. Cut says that it is above From: what was
	// before is not kept any more, or not wholly.
	Since     wal.LSN
	Cut       bool
	NextToken string // empty on the last page
}

// Log returns one page of what was done to the objects of a bucket. The log reaches as far back as
// every moment can be read, through the moves of the bucket and into what it was forked from.
//
// A page costs one walk over what was written between its bounds, whatever it was written to; memory
// is that of the page.
//
// Errors: ErrInvalidToken, timeline.ErrNoSuchBucket, ErrFuture, *BelowHorizonError, ErrCorrupt,
// layers.ErrCorrupt.
func (s *Service) Log(ctx context.Context, in *LogInput) (*LogPage, error) {
	c := logCollector{s: s, oldest: in.Oldest, most: in.Max, from: in.From, to: in.To, at: make(map[logPlace]*logGroup)}
	if c.most <= 0 || c.most > MaxLogEntries {
		c.most = MaxLogEntries
	}
	if in.Token != "" {
		t, err := parseLogToken(in.Token)
		if err != nil || t.oldest != in.Oldest {
			return nil, ErrInvalidToken
		}
		c.to, c.after = t.to, &t.after
	}
	l, err := s.store.Log(ctx, in.Bucket, c.from, c.to)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	page := &LogPage{To: l.To()}
	page.Since, page.Cut = l.Since()
	c.to = l.To()
	c.narrow()
	for _, lsn := range l.Moves() {
		if in.Prefix == "" && c.wants(logPlace{lsn: lsn}) {
			c.group(logPlace{lsn: lsn}).entries = []LogEntry{{LSN: lsn, Kind: LogMove}}
		}
	}
	upper := bound(successor(in.Prefix))
	if err := l.Records(ctx, layers.NamespaceObjects, []byte(in.Prefix), upper, c.from, c.to, c.object); err != nil {
		return nil, err
	}
	lower := appendEscaped(nil, in.Prefix)
	if err := l.Records(ctx, layers.NamespaceVersions, lower, bound(successor(string(lower))), c.from, c.to, c.version); err != nil {
		return nil, err
	}
	c.page(page)
	return page, nil
}

// logPlace is where in a log what one commit did to one key lies.
type logPlace struct {
	lsn wal.LSN
	key string
}

// logGroup is what one commit did to one key.
type logGroup struct {
	object  *LogEntry // what it did to the object; nil: nothing
	entries []LogEntry
}

// logCollector gathers the first places of a log behind after.
type logCollector struct {
	s        *Service
	oldest   bool
	most     int
	from, to wal.LSN
	after    *logPlace // nil: from the start
	more     bool      // there are places behind those that are gathered
	at       map[logPlace]*logGroup
	// last is, of the places that are gathered, the last one once there are as many as wanted.
	last *logPlace
}

// order compares places as the log has them.
func (c *logCollector) order(a, b logPlace) int {
	lsn := cmp.Compare(a.lsn, b.lsn)
	if !c.oldest {
		lsn = -lsn
	}
	return cmp.Or(lsn, cmp.Compare(a.key, b.key))
}

// narrow leaves out LSNs that lie before after.
func (c *logCollector) narrow() {
	switch {
	case c.after == nil:
	case c.oldest:
		c.from = max(c.from, c.after.lsn-1)
	default:
		c.to = min(c.to, c.after.lsn)
	}
}

// wants reports whether a place is, as far as is known, one of the page.
func (c *logCollector) wants(p logPlace) bool {
	if p.lsn <= c.from || p.lsn > c.to || c.after != nil && c.order(p, *c.after) <= 0 {
		return false
	}
	if c.last != nil && c.order(p, *c.last) > 0 {
		c.more = true
		return false
	}
	return true
}

// group returns the group of a place that is wanted. Every so often it lets go of those behind the
// first ones.
func (c *logCollector) group(p logPlace) *logGroup {
	g := c.at[p]
	if g == nil {
		g = &logGroup{}
		c.at[p] = g
		if len(c.at) > 2*c.most {
			places := c.sorted()
			for _, p := range places[c.most:] {
				delete(c.at, p)
			}
			c.last, c.more = &places[c.most-1], true
			if _, ok := c.at[p]; !ok {
				return &logGroup{} // it was among those
			}
		}
	}
	return g
}

func (c *logCollector) sorted() []logPlace {
	places := make([]logPlace, 0, len(c.at))
	for p := range c.at {
		places = append(places, p)
	}
	slices.SortFunc(places, c.order)
	return places
}

// object takes a record of NamespaceObjects.
func (c *logCollector) object(r *layers.Record) error {
	p := logPlace{lsn: r.LSN, key: string(r.Key.User())}
	if !c.wants(p) {
		return nil
	}
	e := &LogEntry{LSN: r.LSN, Kind: LogDelete, Key: p.key, Writer: r.Writer}
	if r.Kind != layers.KindTombstone {
		f, err := asObject(*r)
		if err == nil {
			err = c.describe(e, f)
		}
		if err != nil {
			return err
		}
		switch {
		case f.lsn != r.LSN:
			e.Kind = LogMetadata
		case f.head.pages.paged():
			e.Kind = LogWrite
		default:
			e.Kind = LogPut
		}
	}
	c.group(p).object = e
	return nil
}

// describe fills in what f is.
func (c *logCollector) describe(e *LogEntry, f *found) (err error) {
	e.Version, e.ID, e.Size, e.Class = f.lsn, f.id(), f.head.size, f.head.class
	if !f.marker() {
		e.ETag, err = c.s.shownETag(f)
	}
	return err
}

// version takes a record of NamespaceVersions.
func (c *logCollector) version(r *layers.Record) error {
	if isNullRecord(r.Key.User()) {
		return nil
	}
	prefix, lsn, err := splitVersionKey(r.Key.User())
	if err != nil {
		return err
	}
	key, err := unescape(prefix)
	if err != nil {
		return err
	}
	p := logPlace{lsn: r.LSN, key: string(key)}
	if !c.wants(p) {
		return nil
	}
	e := LogEntry{LSN: r.LSN, Key: p.key, Kind: LogDeleteVersion, Version: lsn, ID: VersionID(lsn), Writer: r.Writer}
	if r.Kind != layers.KindTombstone {
		f, err := asVersion(*r, lsn)
		if err == nil {
			err = c.describe(&e, f)
		}
		if err != nil {
			return err
		}
		if e.Kind = LogMetadata; f.marker() {
			e.Kind = LogMarker
		}
	}
	g := c.group(p)
	g.entries = append(g.entries, e)
	return nil
}

// told returns what a commit did to a key: what it did to the object, and to other versions
// unless that only follows from it.
func (g *logGroup) told() []LogEntry {
	o, told := g.object, []LogEntry(nil)
	marked := false
	for _, e := range g.entries {
		switch {
		case o == nil || e.Kind == LogMove:
			told = append(told, e)
		case e.Kind == LogMarker:
			marked = true
			told = append(told, e)
		case e.Kind == LogDeleteVersion && o.Version == e.Version:
			o.Kind = LogCurrent
		case e.Kind == LogDeleteVersion:
			told = append(told, e)
		} // else: what was current before lies with the other versions now
	}
	if o != nil && (o.Kind != LogDelete || !marked) {
		told = append([]LogEntry{*o}, told...)
	}
	return told
}

// page makes a page of what was gathered.
func (c *logCollector) page(page *LogPage) {
	places := c.sorted()
	if len(places) > c.most {
		places, c.more = places[:c.most], true
	}
	for _, p := range places {
		page.Entries = append(page.Entries, c.at[p].told()...)
	}
	if n := len(places); c.more && n > 0 {
		page.NextToken = logToken{to: page.To, oldest: c.oldest, after: places[n-1]}.String()
	}
}

// logToken says where a log goes on; see listToken.
type logToken struct {
	to     wal.LSN
	oldest bool
	after  logPlace
}

const logTokenVersion = 3

// String returns the version (1 byte), the order (1 byte), the end of the log and the LSN of the last place
// (8 bytes each, big-endian), and its key, in URL-safe base64.
func (t logToken) String() string {
	p := append(make([]byte, 0, 18+len(t.after.key)), logTokenVersion, 0)
	if t.oldest {
		p[1] = 1
	}
	p = binary.BigEndian.AppendUint64(p, uint64(t.to))
	p = binary.BigEndian.AppendUint64(p, uint64(t.after.lsn))
	return base64.RawURLEncoding.EncodeToString(append(p, t.after.key...))
}

// parseLogToken parses what String gives. Errors: ErrInvalidToken.
func parseLogToken(s string) (t logToken, err error) {
	p, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(p) < 18 || p[0] != logTokenVersion || p[1] > 1 || len(p) > 18+MaxKeyBytes {
		return t, ErrInvalidToken
	}
	t.oldest, t.to = p[1] == 1, wal.LSN(binary.BigEndian.Uint64(p[2:]))
	t.after = logPlace{lsn: wal.LSN(binary.BigEndian.Uint64(p[10:])), key: string(p[18:])}
	if t.to == 0 || t.to >= wal.MaxLSN || t.after.lsn == 0 || t.after.lsn > t.to {
		return t, ErrInvalidToken
	}
	return t, nil
}
