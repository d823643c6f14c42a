package timeline

import "context"

// UsageInPasses is Usage with n values in mind at a time.
func (s *Store) UsageInPasses(ctx context.Context, n int) (Usage, error) { return s.usage(ctx, nil, n) }
