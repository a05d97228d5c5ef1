internal import ControlInterface
internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// That the host is being emptied, as the next tdxd finds it: `drain.json` in the state directory.
struct DrainRecord: Codable, Hashable, Sendable {
    var purpose: DrainPurpose
    /// RFC 3339, UTC.
    var since: String
    /// How running TDs are ended.
    var policy: StopPolicy
    /// The boot in which it began; nil where the kernel did not say.
    var bootID: String?

    /// Of this boot.
    static var currentBootID: String? {
        (try? TextFile.read("/proc/sys/kernel/random/boot_id", limit: 64)).map { String($0.prefix { !$0.isNewline }) }
    }

    /// What it was for has come: another kernel runs.
    func isFulfilled(in boot: String?) -> Bool {
        guard purpose == .kexec || purpose == .shutdown, let bootID, let boot else { return false }
        return bootID != boot
    }

    enum CodingKeys: String, CodingKey {
        case purpose, since, policy
        case bootID = "boot_id"
    }

    static let name = "drain.json"

    /// Nil where there is none. One that cannot be read counts: a host that was being emptied must not fill again because
    /// of a broken file.
    static func read(in directory: String) -> Self? {
        let path = directory + "/" + name
        do throws(LinuxError) {
            let bytes = try DurableFile.read(path: path)
            if let record = try? JSONDecoder().decode(Self.self, from: Data(bytes)) { return record }
        } catch {
            if error.errno == .noSuchFileOrDirectory { return nil }
        }
        return Self(purpose: .maintenance, since: "an unknown time", policy: .auto)
    }

    func write(in directory: String) throws {
        try DurableFile.write(Array(try JSONEncoder().encode(self)), name: Self.name, in: directory)
    }

    static func remove(in directory: String) throws(LinuxError) {
        let path = directory + "/" + name
        guard unlink(path) == 0 || errno == ENOENT else {
            throw LinuxError("unlink", Errno(rawValue: errno), detail: path)
        }
    }
}
