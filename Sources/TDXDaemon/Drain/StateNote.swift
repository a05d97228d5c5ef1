internal import FoundationEssentials
internal import LinuxSystem
internal import SystemPackage

/// What tdxd notes for the next tdxd: a file in the state directory, as JSON.
protocol StateNote: Codable, Hashable, Sendable {
    /// The file's name.
    static var name: String { get }
}

/// What a state directory has of a note.
enum NoteReading<Note: StateNote>: Hashable, Sendable {
    /// The file does not exist.
    case none
    case record(Note)
    /// The file exists and is invalid, or whether it exists is not known; why. It is never taken for none: no TD may be
    /// let in, or ended, because of it.
    case unreadable(String)
}

extension StateNote {
    static func read(in directory: String) -> NoteReading<Self> {
        let path = directory + "/" + name
        do throws(LinuxError) {
            let bytes = try DurableFile.read(path: path)
            do { return .record(try JSONDecoder().decode(Self.self, from: Data(bytes))) } catch {
                return .unreadable("\(path) is invalid: \(error)")
            }
        } catch {
            return error.errno == .noSuchFileOrDirectory ? .none : .unreadable("\(error)")
        }
    }

    func write(in directory: String) throws {
        try DurableFile.write(Array(try JSONEncoder().encode(self)), name: Self.name, in: directory)
    }
}
