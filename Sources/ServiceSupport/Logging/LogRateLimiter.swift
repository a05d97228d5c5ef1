internal import Synchronization

/// Lets a few messages of one kind through and counts the rest, so that no client can fill the log: a token bucket for
/// each key, in bounded memory. May be used from any thread.
public final class LogRateLimiter: Sendable {
    private struct Bucket {
        var tokens: Double
        var filled: Duration
        var suppressed = 0
    }

    private let burst: Double
    private let interval: Duration
    private let capacity: Int
    private let buckets = Mutex<[String: Bucket]>([:])

    /// - Parameters:
    ///   - burst: how many of a kind pass at once; at least 1.
    ///   - interval: after which one more passes; more than zero.
    ///   - capacity: how many kinds are distinguished; when there are more, they share one bucket. At least 1.
    public init(burst: Int = 5, interval: Duration = .seconds(10), capacity: Int = 1024) {
        precondition(burst >= 1 && interval > .zero && capacity >= 1, "a rate limiter lets something through")
        self.burst = Double(burst)
        self.interval = interval
        self.capacity = capacity
    }

    /// Whether a message may be logged now.
    /// - Parameters:
    ///   - key: its kind, such as the refusal and the user.
    ///   - now: any clock that never goes back.
    /// - Returns: nil to keep silent; otherwise how many of the kind were kept silent since the last one that passed.
    public func admit(_ key: String, now: Duration) -> Int? {
        buckets.withLock { buckets in
            if buckets[key] == nil && buckets.count >= capacity {
                // A full bucket holds no more than a new one would.
                buckets = buckets.filter { refilled($0.value, now).tokens < burst || $0.value.suppressed > 0 }
            }
            let isKnown = buckets[key] != nil || buckets.count < capacity
            let place = isKnown ? key : ""
            var bucket = refilled(buckets[place] ?? Bucket(tokens: burst, filled: now), now)
            defer { buckets[place] = bucket }
            guard bucket.tokens >= 1 else {
                bucket.suppressed += 1
                return nil
            }
            bucket.tokens -= 1
            defer { bucket.suppressed = 0 }
            return bucket.suppressed
        }
    }

    private func refilled(_ bucket: Bucket, _ now: Duration) -> Bucket {
        guard now > bucket.filled else { return bucket }
        return Bucket(
            tokens: min(burst, bucket.tokens + (now - bucket.filled) / interval), filled: now,
            suppressed: bucket.suppressed)
    }
}
