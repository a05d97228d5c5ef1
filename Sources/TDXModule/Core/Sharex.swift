internal import Synchronization

/// The shared/exclusive try-lock of the module (reference §7.1): 16 bits with exclusive in bit 0, host priority in
/// bit 1 and readers in bits 15:2. Nothing ever waits on one.
enum Sharex {
    static let exclusive: UInt64 = 1
    static let hostPriority: UInt64 = 2
    static let reader: UInt64 = 4
    static let mask: UInt64 = 0xFFFF
    /// What an exclusive owner must not find: an owner or readers. Host priority yields to the host.
    static let occupied: UInt64 = 0xFFFD
}

/// A lock of its own, such as KOT's.
struct LockWord: ~Copyable, Sendable {
    private let word = Atomic<UInt64>(0)

    /// Takes the lock, or returns false at once.
    func tryLock(exclusive: Bool) -> Bool {
        var old = word.get()
        while true {
            if old & (exclusive ? Sharex.occupied : Sharex.exclusive) != 0 { return false }
            if word.replace(old, by: old + (exclusive ? Sharex.exclusive : Sharex.reader)) { return true }
            old = word.get()
        }
    }

    func unlock(exclusive: Bool) { word.minus(exclusive ? Sharex.exclusive : Sharex.reader) }
}
