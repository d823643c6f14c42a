package s3api

import (
	"context"
	"strings"
	"time"

	"stemma/pageserver/object"
)

// Headers by which a write asks for a lock, and by which a read tells of it.
const (
	lockModeHeader  = "x-amz-object-lock-mode"
	lockUntilHeader = "x-amz-object-lock-retain-until-date"
	lockHoldHeader  = "x-amz-object-lock-legal-hold"
	bypassHeader    = "x-amz-bypass-governance-retention"
	// bucketLockHeader gives a bucket object lock when it is made.
	bucketLockHeader = "x-amz-bucket-object-lock-enabled"
)

// lockHeaders are those of writes that know them.
var lockHeaders = []string{lockModeHeader, lockUntilHeader, lockHoldHeader}[:3:3]

// lockXML is the document of Get- and PutObjectLockConfiguration.
type lockXML struct {
	Enabled *string      `xml:"ObjectLockEnabled"`
	Rule    *lockRuleXML `xml:"Rule"`
}

type lockRuleXML struct {
	Default *lockDefaultXML `xml:"DefaultRetention"`
}

type lockDefaultXML struct {
	Mode  *string `xml:"Mode"`
	Days  *int    `xml:"Days"`
	Years *int    `xml:"Years"`
}

func getLockConfig(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	if set.Lock == nil {
		return object.ErrNoLockConfig
	}
	enabled := "Enabled"
	doc := lockXML{Enabled: &enabled}
	if c := set.Lock; c.Mode != object.NoRetention {
		mode := c.Mode.String()
		d := &lockDefaultXML{Mode: &mode}
		if c.Days != 0 {
			d.Days = &c.Days
		} else {
			d.Years = &c.Years
		}
		doc.Rule = &lockRuleXML{d}
	}
	r.sendConfig("ObjectLockConfiguration", &doc)
	return nil
}

func putLockConfig(ctx context.Context, r *request) error {
	var doc lockXML
	if err := r.readConfig("ObjectLockConfiguration", &doc); err != nil {
		return err
	}
	c, err := doc.config()
	if err != nil {
		return err
	}
	lsn, err := r.srv.objects.SetLockConfig(ctx, r.bucket, c)
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	return nil
}

// config returns what the document says. Errors: MalformedXML, InvalidRetentionPeriod.
func (x *lockXML) config() (c object.LockConfig, err error) {
	malformed := &apiError{code: "MalformedXML"}
	if x.Enabled == nil || *x.Enabled != "Enabled" {
		return c, malformed
	}
	if x.Rule == nil {
		return c, nil
	}
	d := x.Rule.Default
	if d == nil || d.Mode == nil || (d.Days == nil) == (d.Years == nil) {
		return c, malformed
	}
	var ok bool
	if c.Mode, ok = object.ParseLockMode(*d.Mode); !ok {
		return c, malformed
	}
	if d.Days != nil {
		c.Days = *d.Days
	} else {
		c.Years = *d.Years
	}
	return c, nil
}

// retentionXML is the document of Get- and PutObjectRetention.
type retentionXML struct {
	Mode  *string `xml:"Mode"`
	Until *string `xml:"RetainUntilDate"`
}

func getRetention(ctx context.Context, r *request) error {
	o, err := r.lockOf(ctx)
	if err != nil {
		return err
	}
	l := &o.Lock.Retention
	if l.Mode == object.NoRetention {
		return object.ErrNoLock
	}
	mode, until := l.Mode.String(), formatUntil(l.Until)
	r.sendConfig("Retention", &retentionXML{&mode, &until})
	return nil
}

// lockOf reads the lock of the version that the request names.
func (r *request) lockOf(ctx context.Context) (*object.Object, error) {
	var in object.GetInput
	var err error
	if in.Version, err = r.versionID(); err != nil {
		return nil, err
	}
	if in.At, err = r.at(); err != nil {
		return nil, err
	}
	o, err := r.srv.objects.LockOf(ctx, r.bucket, r.key, &in)
	if err != nil {
		return nil, err
	}
	r.setLSN(o.At)
	r.setVersionID(o.ID)
	return o, nil
}

func putRetention(ctx context.Context, r *request) error {
	id, err := r.versionID()
	if err != nil {
		return err
	}
	bypass, err := r.bypass()
	if err != nil {
		return err
	}
	var doc retentionXML
	if err := r.readDigestedConfig("Retention", &doc); err != nil {
		return err
	}
	to, err := doc.retention()
	if err != nil {
		return err
	}
	o, err := r.srv.objects.SetRetention(ctx, r.bucket, r.key, id, to, bypass)
	return r.changedVersion(o, err)
}

// changedVersion answers for a version that was changed in place.
func (r *request) changedVersion(o *object.Object, err error) error {
	if err != nil {
		return err
	}
	r.setLSN(o.At)
	r.setVersionID(o.ID)
	return nil
}

// retention returns what the document says; an empty one ends the retention. Error: MalformedXML.
func (x *retentionXML) retention() (object.Retention, error) {
	malformed := &apiError{code: "MalformedXML"}
	if x.Mode == nil && x.Until == nil {
		return object.Retention{}, nil
	}
	if x.Mode == nil || x.Until == nil {
		return object.Retention{}, malformed
	}
	mode, ok := object.ParseLockMode(*x.Mode)
	until, parsed := parseUntil(*x.Until)
	if !ok || !parsed {
		return object.Retention{}, malformed
	}
	return object.NewRetention(mode, until), nil
}

// parseUntil parses a date to retain until, up to the year 9999.
func parseUntil(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil && t.Year() >= 1 && !t.After(object.MaxRetainUntil())
}

func formatUntil(t time.Time) string { return string(appendTime(nil, t)) }

// bypass reports whether the request asks to disregard the mode GOVERNANCE. Error: InvalidArgument.
func (r *request) bypass() (bool, error) { return r.boolHeader(bypassHeader) }

// boolHeader returns an x-amz-* header that is true or false, false when it is absent. Error: InvalidArgument.
func (r *request) boolHeader(name string) (bool, error) {
	switch v := r.amz(name); strings.ToLower(v) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, invalidArgument(name, v, name+" must be true or false")
	}
}

// legalHoldXML is the document of Get- and PutObjectLegalHold.
type legalHoldXML struct {
	Status *string `xml:"Status"`
}

func getLegalHold(ctx context.Context, r *request) error {
	o, err := r.lockOf(ctx)
	if err != nil {
		return err
	}
	if o.Lock.Hold == object.NoHold {
		return object.ErrNoLock
	}
	status := o.Lock.Hold.String()
	r.sendConfig("LegalHold", &legalHoldXML{&status})
	return nil
}

func putLegalHold(ctx context.Context, r *request) error {
	id, err := r.versionID()
	if err != nil {
		return err
	}
	var doc legalHoldXML
	if err := r.readDigestedConfig("LegalHold", &doc); err != nil {
		return err
	}
	if doc.Status == nil {
		return &apiError{code: "MalformedXML"}
	}
	hold, ok := parseHold(*doc.Status)
	if !ok {
		return &apiError{code: "MalformedXML"}
	}
	o, err := r.srv.objects.SetLegalHold(ctx, r.bucket, r.key, id, hold)
	return r.changedVersion(o, err)
}

func parseHold(text string) (object.LegalHold, bool) {
	switch text {
	case "ON":
		return object.HoldOn, true
	case "OFF":
		return object.HoldOff, true
	}
	return object.NoHold, false
}

// readDigestedConfig is readConfig of a document that the headers must give a digest of.
func (r *request) readDigestedConfig(root string, v any) error {
	p, err := r.document(maxXMLBytes, true)
	if err != nil {
		return err
	}
	if len(p) == 0 {
		return &apiError{code: "MissingRequestBodyError"}
	}
	return strictXML(p, root, v)
}

// askedLock returns the lock that the headers ask for. Errors: InvalidArgument.
func (r *request) askedLock() (l object.Lock, err error) {
	mode, until, hold := r.amz(lockModeHeader), r.amz(lockUntilHeader), r.amz(lockHoldHeader)
	if hold != "" {
		var ok bool
		if l.Hold, ok = parseHold(hold); !ok {
			return l, invalidArgument(lockHoldHeader, hold, "Legal Hold must be either of 'ON' or 'OFF'")
		}
	}
	if mode == "" && until == "" {
		return l, nil
	}
	if mode == "" || until == "" {
		return l, invalidArgument(lockModeHeader, mode, lockUntilHeader+" and "+lockModeHeader+" must both be supplied")
	}
	m, ok := object.ParseLockMode(mode)
	if !ok {
		return l, invalidArgument(lockModeHeader, mode, "Unknown wormMode directive.")
	}
	t, ok := parseUntil(until)
	if !ok {
		return l, invalidArgument(lockUntilHeader, until, "The retain until date must be provided in ISO 8601 format")
	}
	l.Retention = object.NewRetention(m, t)
	return l, nil
}

// putLock is askedLock of a put, whose headers then must give a digest of the body, also where
// the bucket has a default retention. Errors: InvalidArgument, InvalidRequest, those of Settings.
func (r *request) putLock(ctx context.Context, digest bool) (object.Lock, error) {
	l, err := r.askedLock()
	if err != nil || digest {
		return l, err
	}
	if l == (object.Lock{}) {
		set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
		if err != nil || set.Lock == nil || set.Lock.Mode == object.NoRetention {
			return l, err
		}
	}
	return l, &apiError{code: "InvalidRequest", message: "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"}
}

// setLock tells of the lock of a version.
func (r *request) setLock(l *object.Lock) {
	if l.Retention.Mode != object.NoRetention {
		r.set(lockModeHeader, l.Retention.Mode.String())
		r.set(lockUntilHeader, formatUntil(l.Retention.Until))
	}
	if l.Hold != object.NoHold {
		r.set(lockHoldHeader, l.Hold.String())
	}
}
