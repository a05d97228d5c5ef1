internal import CLinux

/// A reading of CLOCK_MONOTONIC.
public struct MonotonicInstant: Hashable, Comparable, Sendable {
    /// Since an unspecified start, not counting suspend.
    public var nanoseconds: UInt64

    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    public static var now: Self { Self(nanoseconds: tdxd_monotonic_ns()) }

    /// Negative when `earlier` is in fact later.
    public func milliseconds(since earlier: Self) -> Double {
        nanoseconds >= earlier.nanoseconds
            ? Double(nanoseconds - earlier.nanoseconds) / 1e6 : -Double(earlier.nanoseconds - nanoseconds) / 1e6
    }

    /// - Parameter milliseconds: not negative.
    public func adding(milliseconds: Double) -> Self {
        Self(nanoseconds: nanoseconds + UInt64(milliseconds * 1e6))
    }

    public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
}

/// A reading of CLOCK_REALTIME.
public struct WallTime: Hashable, Comparable, Sendable {
    /// Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds.
    public var nanoseconds: Int64

    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    public static var now: Self { Self(nanoseconds: tdxd_wall_clock_ns()) }

    public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }

    /// RFC 3339 in UTC with milliseconds, such as "2026-07-01T12:34:56.789Z".
    public var rfc3339: String {
        let milliseconds = nanoseconds >= 0 ? nanoseconds / 1_000_000 : (nanoseconds - 999_999) / 1_000_000
        let seconds = milliseconds >= 0 ? milliseconds / 1000 : (milliseconds - 999) / 1000
        let days = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400
        let ofDay = seconds - days * 86400
        let (year, month, day) = Self.date(daysSince1970: days)
        func pad(_ value: Int64, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(pad(year, 4))-\(pad(month, 2))-\(pad(day, 2))T\(pad(ofDay / 3600, 2)):\(pad(ofDay / 60 % 60, 2)):"
            + "\(pad(ofDay % 60, 2)).\(pad(milliseconds - seconds * 1000, 3))Z"
    }

    /// The proleptic Gregorian date. Years are counted from 1 March, so that the leap day is a year's last, in eras of
    /// 400 years, which all have 146,097 days.
    private static func date(daysSince1970 days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468  // days from 0000-03-01 to 1970-01-01
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
    }
}
