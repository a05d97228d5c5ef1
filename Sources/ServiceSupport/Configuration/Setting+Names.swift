/// Settings that name users and groups. Whether the host knows them is not asked here: one that is made later, or known
/// to another name service, does not count as a mistake in the file.
extension Setting {
    /// Most users in one setting.
    static let maximumUsers = 64

    /// A name from /etc/group; an empty one stands for nil.
    static func group(
        _ section: String, _ key: String, _ path: Place<String?>
    ) -> Self {
        Self(
            section, key, path, expected: "a group's name of at most 32 of a-z 0-9 _ -, or \"\" for none",
            parse: { (text) -> String?? in
                if text.isEmpty { return .some(nil) }
                return isName(text) ? .some(text) : nil
            }, print: { $0 ?? "\"\"" })
    }

    /// Names from /etc/passwd, or numbers, with blanks between; "" for none.
    static func users(
        _ section: String, _ key: String, _ path: Place<[String]>
    ) -> Self {
        Self(
            section, key, path,
            expected: "at most \(maximumUsers) users with blanks between, each once and each a name of at most 32 of "
                + "a-z 0-9 _ - or a number up to 4294967294, or \"\" for none",
            parse: { text in
                let users = text.split { $0 == " " || $0 == "\t" }.map(String.init)
                guard users.count <= maximumUsers, Set(users).count == users.count else { return nil }
                return users.allSatisfy { isName($0) || isNumber($0) } ? users : nil
            }, print: { $0.isEmpty ? "\"\"" : $0.joined(separator: " ") })
    }

    private static func isName(_ text: String) -> Bool {
        guard (1...32).contains(text.utf8.count) else { return false }
        return text.utf8.enumerated().allSatisfy { index, byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"): true
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): index > 0
            default: false
            }
        }
    }

    /// The largest number, (uid_t)-1, means no user to the kernel. A zero in front would be a second name of a user.
    private static func isNumber(_ text: String) -> Bool {
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = UInt32(text)
        else { return false }
        return number < .max && (text == "0" || !text.hasPrefix("0"))
    }
}
