package s3api

import (
	"context"

	"stemma/pageserver/object"
)

var websiteConfig = config[object.Website]{
	root: "WebsiteConfiguration", absent: "NoSuchWebsiteConfiguration",
	of:    func(set *object.Settings) **object.Website { return &set.Website },
	check: func(_ context.Context, _ *request, w *object.Website) error { return w.Check() },
}
