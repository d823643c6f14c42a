package object

import (
	"slices"
	"strings"
)

// Notification is who is told of what happens in a bucket, as S3's document has it.
type Notification struct {
	Topics      []NotificationTarget `xml:"TopicConfiguration" json:",omitempty"`
	Queues      []NotificationTarget `xml:"QueueConfiguration" json:",omitempty"`
	Functions   []NotificationTarget `xml:"CloudFunctionConfiguration" json:",omitempty"`
	EventBridge *struct{}            `xml:"EventBridgeConfiguration" json:",omitempty"`
}

// NotificationTarget is one who is told. Exactly one of Topic, Queue and Function is set.
type NotificationTarget struct {
	ID       *string             `xml:"Id" json:",omitempty"` // always there in what is stored
	Topic    *string             `xml:"Topic" json:",omitempty"`
	Queue    *string             `xml:"Queue" json:",omitempty"`
	Function *string             `xml:"CloudFunction" json:",omitempty"`
	Events   []string            `xml:"Event"`
	Filter   *NotificationFilter `xml:"Filter" json:",omitempty"`
}

// NotificationFilter says of which keys.
type NotificationFilter struct {
	Key *NotificationKeyFilter `xml:"S3Key" json:",omitempty"`
}

// NotificationKeyFilter has at most one prefix and one suffix, both of which must fit.
type NotificationKeyFilter struct {
	Rules []NotificationRule `xml:"FilterRule" json:",omitempty"`
}

// NotificationRule is a prefix or a suffix.
type NotificationRule struct {
	Name  *string `xml:"Name"`
	Value *string `xml:"Value"`
}

// maxNotifications bounds the targets of a bucket.
const maxNotifications = 100

// notificationEvents are the events that S3 knows. One that ends in * stands for all that
// begin like it.
var notificationEvents = []string{
	"s3:ReducedRedundancyLostObject",
	"s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload",
	"s3:ObjectRemoved:*", "s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated",
	"s3:ObjectRestore:*", "s3:ObjectRestore:Post", "s3:ObjectRestore:Completed", "s3:ObjectRestore:Delete",
	"s3:Replication:*", "s3:Replication:OperationFailedReplication", "s3:Replication:OperationNotTracked",
	"s3:Replication:OperationMissedThreshold", "s3:Replication:OperationReplicatedAfterThreshold",
	"s3:LifecycleExpiration:*", "s3:LifecycleExpiration:Delete", "s3:LifecycleExpiration:DeleteMarkerCreated", "s3:LifecycleTransition",
	"s3:IntelligentTiering", "s3:ObjectAcl:Put",
	"s3:ObjectTagging:*", "s3:ObjectTagging:Put", "s3:ObjectTagging:Delete",
}

// Complete checks the targets and gives ids to those without. Errors: *RuleError.
func (n *Notification) Complete() error {
	if !n.addressed() {
		return malformed
	}
	all := n.targets()
	if len(all) > maxNotifications {
		return invalidRequest("The number of notification configurations must not exceed %d", maxNotifications)
	}
	for i, t := range all {
		if err := t.complete(); err != nil {
			return err
		}
		for _, o := range all[:i] {
			if *o.ID == *t.ID {
				return invalidArgument("Same ID used for multiple configurations. IDs must be unique")
			}
			if o.overlaps(t) {
				return invalidArgument("Configurations overlap. Configurations on the same bucket cannot share a common event type.")
			}
		}
	}
	return nil
}

// targets returns all targets.
func (n *Notification) targets() []*NotificationTarget {
	var all []*NotificationTarget
	for _, list := range [][]NotificationTarget{n.Topics, n.Queues, n.Functions} {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	return all
}

// addressed reports whether every target has the address of its kind, and no other.
func (n *Notification) addressed() bool {
	for i := range n.Topics {
		if t := &n.Topics[i]; t.Topic == nil || t.Queue != nil || t.Function != nil {
			return false
		}
	}
	for i := range n.Queues {
		if t := &n.Queues[i]; t.Queue == nil || t.Topic != nil || t.Function != nil {
			return false
		}
	}
	for i := range n.Functions {
		if t := &n.Functions[i]; t.Function == nil || t.Topic != nil || t.Queue != nil {
			return false
		}
	}
	return true
}

// Address returns the ARN of the target.
func (t *NotificationTarget) Address() string {
	for _, a := range []*string{t.Topic, t.Queue, t.Function} {
		if a != nil {
			return *a
		}
	}
	return ""
}

func (t *NotificationTarget) complete() error {
	if t.ID == nil || *t.ID == "" {
		id := newRuleID()
		t.ID = &id
	}
	if utf16Len(*t.ID) > maxRuleIDChars {
		return invalidArgument("ID length should not exceed allowed limit of %d", maxRuleIDChars)
	}
	if a := t.Address(); len(a) > 2048 || !strings.HasPrefix(a, "arn:") || strings.Count(a, ":") < 5 {
		return invalidArgument("The ARN is not well formed")
	}
	if len(t.Events) == 0 {
		return malformed
	}
	for _, e := range t.Events {
		if !slices.Contains(notificationEvents, e) {
			return invalidArgument("The event is not supported for notifications")
		}
	}
	if t.Filter == nil || t.Filter.Key == nil {
		return nil
	}
	var seen []string
	for _, r := range t.Filter.Key.Rules {
		if r.Name == nil || r.Value == nil {
			return malformed
		}
		name := strings.ToLower(*r.Name)
		switch {
		case name != "prefix" && name != "suffix":
			return invalidArgument("filter rule name must be either prefix or suffix")
		case slices.Contains(seen, name):
			return invalidArgument("Cannot specify more than one %s rule in a filter.", name)
		case len(*r.Value) > MaxKeyBytes:
			return invalidArgument("Size of filter rule value cannot exceed %d bytes in UTF-8 representation", MaxKeyBytes)
		}
		seen = append(seen, name)
	}
	return nil
}

// Affixes returns the prefix and the suffix that keys must have.
func (t *NotificationTarget) Affixes() (prefix, suffix string) {
	if t.Filter == nil || t.Filter.Key == nil {
		return "", ""
	}
	for _, r := range t.Filter.Key.Rules {
		if strings.EqualFold(*r.Name, "prefix") {
			prefix = *r.Value
		} else {
			suffix = *r.Value
		}
	}
	return prefix, suffix
}

// overlaps reports whether two targets would be told of the same event of some key. S3 lets no two.
func (t *NotificationTarget) overlaps(o *NotificationTarget) bool {
	common := slices.ContainsFunc(t.Events, func(a string) bool {
		return slices.ContainsFunc(o.Events, func(b string) bool { return matchWildcard(a, b) || matchWildcard(b, a) })
	})
	if !common {
		return false
	}
	tp, ts := t.Affixes()
	op, osx := o.Affixes()
	return (strings.HasPrefix(tp, op) || strings.HasPrefix(op, tp)) && (strings.HasSuffix(ts, osx) || strings.HasSuffix(osx, ts))
}
