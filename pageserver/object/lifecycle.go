package object

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"stemma/timeline"
)

// Lifecycle is what becomes of objects as they age, as S3's document has it.
// In the bucket where they were put rules are for all objects; in a fork that inherited
// them, for what was written to the fork itself: see Lifecycle.above.
type Lifecycle struct {
	Rules []LifecycleRule `xml:"Rule"`
	// MinimumSize is x-amz-transition-default-minimum-object-size; empty when it was not given.
	MinimumSize string `xml:"-" json:",omitempty"`
	// Bucket is where the rules were put.
	Bucket timeline.BucketID `xml:"-" json:",omitempty"`
}

// LifecycleRule says what becomes of the objects that it is for.
type LifecycleRule struct {
	ID     *string          `xml:"ID" json:",omitempty"` // always there in what is stored
	Prefix *string          `xml:"Prefix" json:",omitempty"`
	Filter *LifecycleFilter `xml:"Filter" json:",omitempty"`
	Status string           `xml:"Status"`

	Expiration            *Expiration            `xml:"Expiration" json:",omitempty"`
	NoncurrentExpiration  *NoncurrentExpiration  `xml:"NoncurrentVersionExpiration" json:",omitempty"`
	AbortUploads          *AbortUploads          `xml:"AbortIncompleteMultipartUpload" json:",omitempty"`
	Transitions           []Transition           `xml:"Transition" json:",omitempty"`
	NoncurrentTransitions []NoncurrentTransition `xml:"NoncurrentVersionTransition" json:",omitempty"`
}

// LifecycleFilter says which objects a rule is for: those that all that is set
// fits. S3 wants And around more than one; here they may also stand side by side.
type LifecycleFilter struct {
	Prefix      *string       `xml:"Prefix" json:",omitempty"`
	Tag         *LifecycleTag `xml:"Tag" json:",omitempty"`
	GreaterThan *int64        `xml:"ObjectSizeGreaterThan" json:",omitempty"`
	LessThan    *int64        `xml:"ObjectSizeLessThan" json:",omitempty"`
	And         *LifecycleAnd `xml:"And" json:",omitempty"`
}

// LifecycleAnd is a filter of several conditions.
type LifecycleAnd struct {
	Prefix      *string        `xml:"Prefix" json:",omitempty"`
	Tags        []LifecycleTag `xml:"Tag" json:",omitempty"`
	GreaterThan *int64         `xml:"ObjectSizeGreaterThan" json:",omitempty"`
	LessThan    *int64         `xml:"ObjectSizeLessThan" json:",omitempty"`
}

// LifecycleTag is a tag that an object must have.
type LifecycleTag struct {
	Key   *string `xml:"Key"`
	Value *string `xml:"Value"`
}

// Expiration ends current versions. Exactly one field is set.
type Expiration struct {
	Date         *string `xml:"Date" json:",omitempty"`
	Days         *int32  `xml:"Days" json:",omitempty"`
	DeleteMarker *bool   `xml:"ExpiredObjectDeleteMarker" json:",omitempty"`
}

// NoncurrentExpiration ends versions that are not current any more.
type NoncurrentExpiration struct {
	Days  *int32 `xml:"NoncurrentDays" json:",omitempty"`
	Newer *int32 `xml:"NewerNoncurrentVersions" json:",omitempty"` // that many stay
}

// AbortUploads ends multipart uploads.
type AbortUploads struct {
	Days *int32 `xml:"DaysAfterInitiation"`
}

// Transition changes the storage class of current versions.
type Transition struct {
	Date  *string `xml:"Date" json:",omitempty"`
	Days  *int32  `xml:"Days" json:",omitempty"`
	Class *string `xml:"StorageClass"`
}

// NoncurrentTransition changes the storage class of versions that are not current any more.
type NoncurrentTransition struct {
	Days  *int32  `xml:"NoncurrentDays" json:",omitempty"`
	Newer *int32  `xml:"NewerNoncurrentVersions" json:",omitempty"`
	Class *string `xml:"StorageClass"`
}

// Limits of S3.
const (
	maxLifecycleRules = 1000
	maxNewerVersions  = 100
)

// Values of Lifecycle.MinimumSize.
const (
	minimumAll    = "all_storage_classes_128K"
	minimumVaries = "varies_by_storage_class"
)

// Complete checks the rules, gives ids to those without, and writes dates in the one
// form that is stored. Errors: *RuleError.
func (l *Lifecycle) Complete() error {
	switch n := len(l.Rules); {
	case n == 0:
		return malformed
	case n > maxLifecycleRules:
		return invalidRequest("The number of lifecycle rules must not exceed the allowed limit of %d rules", maxLifecycleRules)
	case l.MinimumSize != "" && l.MinimumSize != minimumAll && l.MinimumSize != minimumVaries:
		return invalidRequest("TransitionDefaultMinimumObjectSize must be %s or %s", minimumAll, minimumVaries)
	}
	seen := make(map[string]bool, len(l.Rules))
	for i := range l.Rules {
		r := &l.Rules[i]
		if r.ID == nil || *r.ID == "" {
			id := newRuleID()
			r.ID = &id
		}
		if utf16Len(*r.ID) > maxRuleIDChars {
			return invalidArgument("ID length should not exceed allowed limit of %d", maxRuleIDChars)
		}
		if seen[*r.ID] {
			return invalidArgument("Rule ID must be unique. Found same ID for more than one rule")
		}
		seen[*r.ID] = true
		if err := r.complete(); err != nil {
			return err
		}
	}
	return nil
}

func newRuleID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (r *LifecycleRule) complete() error {
	if r.Status != "Enabled" && r.Status != "Disabled" || (r.Prefix == nil) == (r.Filter == nil) {
		return malformed
	}
	if r.Expiration == nil && r.NoncurrentExpiration == nil && r.AbortUploads == nil && len(r.Transitions)+len(r.NoncurrentTransitions) == 0 {
		return invalidRequest("At least one action needs to be specified in a rule.")
	}
	for _, check := range []func() error{r.checkFilter, r.checkExpiration, r.checkNoncurrent, r.checkTransitions, r.checkAbort} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *LifecycleRule) checkFilter() error {
	c := r.conditions()
	if !c.complete {
		return malformed
	}
	for _, p := range c.prefixes {
		if len(p) > MaxKeyBytes {
			return invalidRequest("The maximum size of a prefix is %d.", MaxKeyBytes)
		}
	}
	for i, t := range c.tags {
		if slices.ContainsFunc(c.tags[:i], func(o Field) bool { return o.Key == t.Key }) {
			return invalidRequest("Duplicate Tag Keys are not allowed.")
		}
		if err := checkTags(c.tags[i : i+1]); err != nil {
			return err
		}
	}
	switch {
	case c.greater < -1 || c.less < 0:
		return invalidRequest("'ObjectSizeGreaterThan' and 'ObjectSizeLessThan' must not be negative")
	case c.greater >= 0 && c.less <= c.greater:
		return invalidRequest("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
	}
	return nil
}

func (r *LifecycleRule) checkExpiration() error {
	x := r.Expiration
	if x == nil {
		return nil
	}
	switch n := count(x.Date != nil, x.Days != nil, x.DeleteMarker != nil); {
	case n != 1:
		return malformed
	case x.Days != nil && *x.Days <= 0:
		return invalidArgument("'Days' for Expiration action must be a positive integer")
	case x.Date != nil:
		return completeDate(x.Date)
	case x.DeleteMarker != nil && len(r.conditions().tags) > 0:
		return invalidRequest("ExpiredObjectDeleteMarker cannot be specified with Tags.")
	}
	return nil
}

func (r *LifecycleRule) checkNoncurrent() error {
	if x := r.NoncurrentExpiration; x != nil {
		if err := checkNoncurrent("NoncurrentVersionExpiration", x.Days, x.Newer); err != nil {
			return err
		}
	}
	var last *NoncurrentTransition
	for i := range r.NoncurrentTransitions {
		x := &r.NoncurrentTransitions[i]
		if err := checkTransitionClass(x.Class); err != nil {
			return err
		}
		if err := checkNoncurrent("NoncurrentVersionTransition", x.Days, x.Newer); err != nil {
			return err
		}
		for j := range i {
			if *r.NoncurrentTransitions[j].Class == *x.Class {
				return invalidRequest("'StorageClass' must be different for 'NoncurrentVersionTransition' actions in same 'Rule'")
			}
		}
		if last == nil || *x.Days > *last.Days {
			last = x
		}
	}
	if x := r.NoncurrentExpiration; x != nil && last != nil && *x.Days <= *last.Days {
		return invalidArgument("'NoncurrentDays' in the NoncurrentVersionExpiration action must be greater than 'NoncurrentDays' in the NoncurrentVersionTransition action")
	}
	return nil
}

func checkNoncurrent(action string, days, newer *int32) error {
	switch {
	case days == nil:
		return malformed
	case *days <= 0 && (action == "NoncurrentVersionExpiration" || *days < 0):
		return invalidArgument("'NoncurrentDays' for %s action must be a positive integer", action)
	case newer != nil && (*newer <= 0 || *newer > maxNewerVersions):
		return invalidArgument("'NewerNoncurrentVersions' for %s action must be from 1 to %d", action, maxNewerVersions)
	}
	return nil
}

func (r *LifecycleRule) checkTransitions() error {
	dated := r.Expiration != nil && r.Expiration.Date != nil
	counted := r.Expiration != nil && r.Expiration.Days != nil
	for i := range r.Transitions {
		x := &r.Transitions[i]
		if err := checkTransitionClass(x.Class); err != nil {
			return err
		}
		if count(x.Date != nil, x.Days != nil) != 1 {
			return malformed
		}
		for j := range i {
			if *r.Transitions[j].Class == *x.Class {
				return invalidRequest("'StorageClass' must be different for 'Transition' actions in same 'Rule'")
			}
		}
		if x.Date != nil {
			if err := completeDate(x.Date); err != nil {
				return err
			}
			dated = true
			if r.Expiration != nil && r.Expiration.Date != nil && !parseDate(*r.Expiration.Date).After(parseDate(*x.Date)) {
				return invalidArgument("'Date' in the Expiration action must be later than 'Date' in the Transition action")
			}
			continue
		}
		counted = true
		switch {
		case *x.Days < 0:
			return invalidArgument("'Days' for Transition action must be nonnegative integer")
		case r.Expiration != nil && r.Expiration.Days != nil && *r.Expiration.Days <= *x.Days:
			return invalidArgument("'Days' in the Expiration action must be greater than 'Days' in the Transition action")
		}
	}
	if dated && counted {
		return invalidRequest("Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule")
	}
	return nil
}

func (r *LifecycleRule) checkAbort() error {
	x := r.AbortUploads
	if x == nil {
		return nil
	}
	c := r.conditions()
	switch {
	case x.Days == nil:
		return malformed
	case *x.Days <= 0:
		return invalidArgument("'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer")
	case len(c.tags) > 0:
		return invalidRequest("AbortIncompleteMultipartUpload cannot be specified with Tags.")
	case c.sized():
		return invalidRequest("AbortIncompleteMultipartUpload cannot be specified with ObjectSizeGreaterThan or ObjectSizeLessThan.")
	}
	return nil
}

// transitionClasses are those that objects can go over to.
var transitionClasses = []StorageClass{StandardIA, OneZoneIA, IntelligentTiering, GlacierIR, Glacier, DeepArchive}

func checkTransitionClass(name *string) error {
	if name == nil {
		return malformed
	}
	c, err := ParseStorageClass(*name)
	if err != nil || !slices.Contains(transitionClasses, c) {
		return malformed
	}
	return nil
}

// dateForm is the form of dates in what is stored.
const dateForm = "2006-01-02T15:04:05.000Z"

// completeDate checks a date in ISO 8601, and puts it into the one form.
func completeDate(s *string) error {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		t, err := time.Parse(form, strings.TrimSpace(*s))
		if err != nil {
			continue
		}
		t = t.UTC()
		if !t.Equal(t.Truncate(24 * time.Hour)) {
			return invalidArgument("'Date' must be at midnight GMT")
		}
		if t.Year() < 1970 || t.Year() > 9999 {
			return invalidArgument("'Date' is out of range")
		}
		*s = t.Format(dateForm)
		return nil
	}
	return malformed
}

// parseDate parses a date that completeDate has seen.
func parseDate(s string) time.Time {
	t, err := time.Parse(dateForm, s)
	if err != nil {
		panic(fmt.Sprintf("BUG: date %q", s))
	}
	return t
}

func count(set ...bool) (n int) {
	for _, s := range set {
		if s {
			n++
		}
	}
	return n
}
