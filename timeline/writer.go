package timeline

import "context"

type writerKey struct{}

// WithWriter has the commits that are made with ctx remember who made them, in every record of a key: a number
// that means something to the caller, and costs its bytes as a uvarint. Operations on the tree remember nobody.
func WithWriter(ctx context.Context, writer uint32) context.Context {
	return context.WithValue(ctx, writerKey{}, writer)
}

func writerOf(ctx context.Context) uint32 {
	writer, _ := ctx.Value(writerKey{}).(uint32)
	return writer
}
