package object

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// TigrisSettings is how clients of Tigris configure what a bucket holds; forks begin with it.
type TigrisSettings struct {
	// CacheControl is that of objects which have none of their own.
	CacheControl string `json:"cache_control,omitempty"`
	// StorageClass is that of objects which are put without one, by its name; empty: STANDARD.
	StorageClass string `json:"storage_class,omitempty"`
	// Regions are where the bucket was said to be, separated by commas: kept and told.
	Regions string `json:"regions,omitempty"`
	// NoSniff has reads of objects say X-Content-Type-Options: nosniff.
	NoSniff bool `json:"no_sniff,omitempty"`
	// ObjectACLs says whether objects have ACLs that count. Nil: nobody said so, and they do, as S3 has it.
	ObjectACLs *bool `json:"object_acls,omitempty"`
	// Public lets everybody read the objects, if the ACL of the bucket lets everybody read.
	Public bool `json:"public,omitempty"`
	// HideListing keeps everybody from listing what the ACL of the bucket lets everybody read.
	HideListing bool `json:"hide_listing,omitempty"`
	// SoftDeleteDays is for how long deleted objects, and the bucket, can be brought back; zero: nobody asked for that.
	SoftDeleteDays int `json:"soft_delete_days,omitempty"`
}

// The range of SoftDeleteDays of a bucket that has soft deletion.
const (
	MinSoftDeleteDays = 7
	MaxSoftDeleteDays = 90
)

// TigrisAttributes are what clients of Tigris configure of a bucket itself. All of it is kept and told, and nothing is done.
type TigrisAttributes struct {
	Domain  string    `json:"domain,omitempty"` // of a website
	Webhook *Webhook  `json:"webhook,omitempty"`
	Shadow  *Shadow   `json:"shadow,omitempty"`
	Shares  []Sharing `json:"shares,omitempty"`
}

// Webhook is who is told of what happens to objects.
type Webhook struct {
	Enabled bool         `json:"enabled"`
	URL     string       `json:"web_hook"`
	Filter  string       `json:"filter"`
	Auth    *WebhookAuth `json:"auth,omitempty"`
}

// WebhookAuth is a token, or a name and a password.
type WebhookAuth struct {
	Token    string `json:"token,omitempty"`
	User     string `json:"basic_user,omitempty"`
	Password string `json:"basic_pass,omitempty"`
}

// Shadow is the bucket elsewhere that objects are to come from. The secret of the key is not kept: nobody asks there.
type Shadow struct {
	AccessKey    string `json:"access_key,omitempty"`
	Region       string `json:"region,omitempty"`
	Name         string `json:"name,omitempty"`
	Endpoint     string `json:"endpoint,omitempty"`
	WriteThrough bool   `json:"write_through"`
}

// Sharing is a role of a team, or of a user, in a bucket.
type Sharing struct {
	TeamID string `json:"team_id,omitempty"`
	UserID string `json:"user_id,omitempty"`
	Role   string `json:"role"`
}

// Limits of what clients of Tigris configure; lengths are in bytes.
const (
	maxTigrisText = 2048
	maxSharings   = 200
)

// OfTigris returns a copy of the settings of Tigris; the zero ones when there are none.
func (s *Settings) OfTigris() TigrisSettings {
	if s.Tigris == nil {
		return TigrisSettings{}
	}
	return *s.Tigris
}

// ChangeTigris changes the settings of Tigris. Errors: *RuleError.
func (s *Settings) ChangeTigris(change func(*TigrisSettings)) error {
	t := s.OfTigris()
	change(&t)
	if err := t.check(); err != nil {
		return err
	}
	if s.Tigris = &t; t == (TigrisSettings{}) {
		s.Tigris = nil
	}
	return nil
}

func (t *TigrisSettings) check() error {
	for _, v := range []string{t.CacheControl, t.Regions} {
		if err := checkTigrisText(v); err != nil {
			return err
		}
	}
	if c, err := ParseStorageClass(t.StorageClass); err != nil {
		return invalidArgument("%q is no storage class", t.StorageClass)
	} else if c == Standard {
		t.StorageClass = ""
	}
	if d := t.SoftDeleteDays; d != 0 && (d < MinSoftDeleteDays || d > MaxSoftDeleteDays) {
		return invalidArgument("Soft deletion is for %d to %d days", MinSoftDeleteDays, MaxSoftDeleteDays)
	}
	return nil
}

// DefaultClass returns the storage class of what is put without one.
func (s *Settings) DefaultClass() StorageClass {
	if s.Tigris == nil {
		return Standard
	}
	c, _ := ParseStorageClass(s.Tigris.StorageClass) // it was checked
	return c
}

// ObjectACLsEnabled reports whether ACLs of objects count in the bucket.
func (s *Settings) ObjectACLsEnabled() bool {
	return s.ACLsEnabled() && (s.Tigris == nil || s.Tigris.ObjectACLs == nil || *s.Tigris.ObjectACLs)
}

// ChangeTigris changes the attributes of Tigris: change gets a copy whose parts it must replace rather than change.
// Errors: *RuleError.
func (a *Attributes) ChangeTigris(change func(*TigrisAttributes)) error {
	var t TigrisAttributes
	if a.Tigris != nil {
		t = *a.Tigris
	}
	change(&t)
	if err := t.check(); err != nil {
		return err
	}
	if a.Tigris = &t; t.Domain == "" && t.Webhook == nil && t.Shadow == nil && len(t.Shares) == 0 {
		a.Tigris = nil
	}
	return nil
}

func (t *TigrisAttributes) check() error {
	texts := []string{t.Domain}
	if w := t.Webhook; w != nil {
		texts = append(texts, w.URL, w.Filter)
		if err := checkWebURL(w.URL); err != nil {
			return err
		}
		if a := w.Auth; a != nil {
			if (a.Token != "") == (a.User != "" && a.Password != "") {
				return invalidArgument("A webhook is authorized by a token, or by a name and a password")
			}
			texts = append(texts, a.Token, a.User, a.Password)
		}
	}
	if s := t.Shadow; s != nil {
		texts = append(texts, s.AccessKey, s.Region, s.Name, s.Endpoint)
		if s.AccessKey == "" || s.Region == "" || s.Name == "" {
			return invalidArgument("A bucket to migrate from has a name, a region and an access key")
		}
		if err := checkWebURL(s.Endpoint); err != nil {
			return err
		}
	}
	for _, v := range texts {
		if err := checkTigrisText(v); err != nil {
			return err
		}
	}
	if strings.ContainsAny(t.Domain, "/:@ ") {
		return invalidArgument("%q is no domain", t.Domain)
	}
	return checkSharings(t.Shares)
}

func checkSharings(list []Sharing) error {
	if len(list) > maxSharings {
		return invalidArgument("A bucket is shared with at most %d teams and users", maxSharings)
	}
	seen := make(map[Sharing]bool, len(list))
	for _, s := range list {
		switch s.Role {
		case "ReadOnly", "ReadWrite", "Editor":
		default:
			return invalidArgument("%q is no role: want ReadOnly, ReadWrite or Editor", s.Role)
		}
		if (s.TeamID == "") == (s.UserID == "") || len(s.TeamID)+len(s.UserID) > MaxLabelValueBytes {
			return invalidArgument("A bucket is shared with a team or with a user")
		}
		if s.Role = ""; seen[s] {
			return invalidArgument("A bucket is shared twice with %q", s.TeamID+s.UserID)
		}
		seen[s] = true
	}
	return nil
}

func checkWebURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return invalidArgument("%.100q is no URL of http or https", text)
	}
	return nil
}

// checkTigrisText refuses what is long, or what no header can hold.
func checkTigrisText(s string) error {
	if len(s) > maxTigrisText || !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return invalidArgument("%.100q: want at most %d bytes of text without control characters", s, maxTigrisText)
	}
	return nil
}

// Plain reports whether a rule of a lifecycle is one that clients of Tigris can make: what has a prefix expires, or changes
// its class.
func (r *LifecycleRule) Plain() bool {
	if f := r.Filter; f != nil && (f.Tag != nil || f.GreaterThan != nil || f.LessThan != nil || f.And != nil) {
		return false
	}
	return r.NoncurrentExpiration == nil && r.AbortUploads == nil && len(r.NoncurrentTransitions) == 0 && len(r.Transitions) <= 1 &&
		(r.Expiration == nil || r.Expiration.DeleteMarker == nil) && (r.Expiration != nil || len(r.Transitions) > 0)
}
