internal import ControlInterface

/// The best backend that a TD of this host has had, as the next tdxd finds it: `backend.json` in the state directory.
///
/// With `backend = auto` a holder takes the best backend that it finds. When /dev/kvm cannot be opened for a moment, that
/// would be a weaker one than the TD before had, and the client would not notice. So what the host has had is the least
/// that `auto` takes, until an administrator names a backend or removes the file.
struct BackendRecord: StateNote {
    var backend: Backend
    /// When a TD first had it: RFC 3339, UTC.
    var since: String

    static let name = "backend.json"

    /// Why a TD may not have a backend that `auto` chose; nil where it may.
    static func refusal(of backend: Backend, after reading: NoteReading<Self>, in directory: String) -> String? {
        let path = directory + "/" + name
        let remedy =
            "To accept \(backend.rawValue), set backend = \(backend.rawValue) in [backend] of tdxd.conf, "
            + "or remove \(path)"
        switch reading {
        case .none:
            return nil
        case .record(let record):
            guard backend.isWeaker(than: record.backend) else { return nil }
            return "the host offers only backend \(backend.rawValue) now, and had \(record.backend.rawValue) since "
                + "\(record.since); `tdxctl check` shows why. \(remedy)"
        case .unreadable(let reason):
            return "which backend this host had before is unknown: \(reason). \(remedy)"
        }
    }
}
