import Glibc
import LinuxSystem
import SystemPackage

/// A directory for one test, which goes with it.
final class TemporaryTree {
    let path: String

    init() throws {
        var template = Array("/tmp/linux-system-tests-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw LinuxError("mkdtemp", .init(rawValue: errno)) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Writes a file, with the directories that lead to it.
    func write(_ name: String, _ text: String) throws {
        var directory = path
        for component in name.split(separator: "/").dropLast() {
            directory += "/\(component)"
            mkdir(directory, 0o755)
        }
        guard let file = fopen("\(path)/\(name)", "w") else { throw LinuxError("fopen", .init(rawValue: errno)) }
        fputs(text, file)
        fclose(file)
    }

    deinit { _ = try? ProgramStart(path: "/bin/rm", arguments: ["-rf", path]).start().wait() }
}
