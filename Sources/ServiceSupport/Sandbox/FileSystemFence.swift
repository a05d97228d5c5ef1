internal import CLinux
public import LinuxSystem
internal import SystemPackage

/// A Landlock domain: files that no rule names are out of reach, whatever their permissions are, also for root. It
/// holds for the thread that enters it and for every thread and program that this thread starts later; nothing takes it
/// away again. Descriptors that were opened before keep what they could.
///
/// Whoever is inside cannot look into processes outside (ptrace(2), and the entries of /proc that ask as much: fd,
/// maps, mem), cannot mount, and binds and connects no TCP port where the kernel's Landlock knows of ports.
///
/// Source: landlock(7) and the kernel's Documentation/userspace-api/landlock.rst.
public struct FileSystemFence: Hashable, Sendable {
    /// LANDLOCK_ACCESS_FS_*.
    public struct Access: OptionSet, Hashable, Sendable {
        public let rawValue: UInt64
        public init(rawValue: UInt64) { self.rawValue = rawValue }

        public static let execute = Self(rawValue: 1 << 0)
        public static let writeFile = Self(rawValue: 1 << 1)
        public static let readFile = Self(rawValue: 1 << 2)
        public static let readDirectory = Self(rawValue: 1 << 3)
        public static let removeDirectory = Self(rawValue: 1 << 4)
        public static let removeFile = Self(rawValue: 1 << 5)
        public static let makeDirectory = Self(rawValue: 1 << 7)
        public static let makeFile = Self(rawValue: 1 << 8)
        public static let makeSocket = Self(rawValue: 1 << 9)
        /// Links and renames from one directory into another. Refused before version 2.
        public static let refer = Self(rawValue: 1 << 13)
        /// Since version 3; freely allowed before.
        public static let truncate = Self(rawValue: 1 << 14)
        /// ioctl(2) on devices. Since version 5; freely allowed before.
        public static let deviceControl = Self(rawValue: 1 << 15)

        public static let read: Self = [.readFile, .readDirectory]
        /// A directory of one's own, with all in it.
        public static let keep: Self = [
            .readFile, .readDirectory, .writeFile, .truncate, .removeFile, .removeDirectory, .makeFile, .makeDirectory,
            .makeSocket, .refer,
        ]
        public static let device: Self = [.readFile, .writeFile, .deviceControl]

        /// What can be allowed on anything but a directory.
        static let ofFiles: Self = [.execute, .writeFile, .readFile, .truncate, .deviceControl]

        /// All that a version can refuse.
        static func known(in version: Int) -> Self {
            let bits =
                switch version {
                case ..<2: 13
                case 2: 14
                case 3, 4: 15
                default: 16
                }
            return Self(rawValue: 1 << UInt64(bits) - 1)
        }
    }

    /// What may be done to a path and to all beneath it.
    public struct Rule: Hashable, Sendable {
        public var path: String
        public var access: Access
        /// For people.
        public var reason: String

        public init(_ path: String, _ access: Access, because reason: String) {
            self.path = path
            self.access = access
            self.reason = reason
        }
    }

    /// Whether the kernel has Landlock.
    public enum Support: Hashable, Sendable {
        /// Its version (“ABI”), from 1: Linux 5.13 has 1, 6.12 has 6.
        case version(Int)
        /// ENOSYS: not built in. EOPNOTSUPP: built in and off. EPERM: a filter around this process hides it.
        case absent(LinuxError)

        public static var ofKernel: Self {
            do throws(LinuxError) {
                let version = try LinuxError.check(tdxd_landlock_version(), "landlock_create_ruleset")
                return .version(Int(version))
            } catch {
                return .absent(error)
            }
        }
    }

    /// What came of entering.
    public enum Outcome: Hashable, Sendable, CustomStringConvertible {
        /// The kernel's version, and paths of rules that do not exist or cannot be reached: they stay out of reach,
        /// also when they come to be.
        case entered(version: Int, missing: [String])
        /// The kernel has no Landlock; nothing is different.
        case unavailable(LinuxError)

        public var description: String {
            switch self {
            case .entered(let version, _): "in force, version \(version)"
            case .unavailable(let error): "not in force: \(error)"
            }
        }
    }

    public var rules: [Rule]
    /// Signals reach only processes inside the domain, and abstract Unix sockets are out of reach. Since version 6.
    public var isolatesProcess: Bool

    public init(rules: [Rule], isolatingProcess isolatesProcess: Bool = false) {
        self.rules = rules
        self.isolatesProcess = isolatesProcess
    }

    /// Puts the calling thread under the fence, with no_new_privs. For the time before other threads are started: those
    /// that exist stay outside.
    /// - Throws: what opening a rule's path gives other than that it is missing or may not be reached; E2BIG inside 16
    ///   other domains. On error the thread is as before, apart from no_new_privs.
    @discardableResult
    public func enter() throws(LinuxError) -> Outcome {
        let version: Int
        switch Support.ofKernel {
        case .version(let number): version = number
        case .absent(let error): return .unavailable(error)
        }
        let handled = Access.known(in: version)
        // Version 4 knows binding and connecting TCP sockets (bits 0 and 1); version 6 abstract sockets and signals.
        let ruleset = OwnedDescriptor(
            taking: try LinuxError.check(
                tdxd_landlock_ruleset(handled.rawValue, version >= 4 ? 3 : 0, version >= 6 && isolatesProcess ? 3 : 0),
                "landlock_create_ruleset"))
        var missing: [String] = []
        for rule in rules {
            do throws(LinuxError) {
                try allow(rule, in: ruleset, handled)
            } catch {
                guard error.errno == .noSuchFileOrDirectory || error.errno == .permissionDenied else { throw error }
                missing.append(rule.path)
            }
        }
        try CurrentProcess.setNoNewPrivileges()
        try LinuxError.check(tdxd_landlock_enter(ruleset.rawValue), "landlock_restrict_self")
        return .entered(version: version, missing: missing)
    }

    private func allow(
        _ rule: Rule, in ruleset: borrowing OwnedDescriptor, _ handled: Access
    ) throws(LinuxError) {
        let place = try OwnedDescriptor.open(path: rule.path, .place)
        let possible = try place.status().kind == .directory ? handled : handled.intersection(.ofFiles)
        let rights = rule.access.intersection(possible)
        // A rule that allows nothing is an error to the kernel.
        guard !rights.isEmpty else { return }
        try LinuxError.check(
            tdxd_landlock_allow(ruleset.rawValue, place.rawValue, rights.rawValue), "landlock_add_rule", rule.path)
    }
}
