"""Clauses and their word orders: main, inverted (verb first) and subordinate.

German and Dutch clauses are split into topological fields: finite verb, middle field, closing verbs
and postfield. Main clauses have the finite verb second; subordinate clauses have it after the
middle field, in German after the other verbs ("gelesen hat"), in Dutch before them ("heeft
gelezen").
"""

from __future__ import annotations

from dataclasses import dataclass

from .lexicon import Adjective, Adverb, Place
from .phrases import NounPhrase, Pronoun, join
from .verbs import Verb

_SLOT = {"1s": 0, "3s": 1, "1p": 2, "3p": 2}  # index of a German or Dutch finite form
_IT_SLOT = {"1s": 0, "3s": 1, "1p": 2, "3p": 3}
_MODALS = {
    "can": {
        "de": ("kann", "kann", "können"),
        "nl": ("kan", "kan", "kunnen"),
        "it": ("posso", "può", "possiamo", "possono"),
    },
    "must": {
        "de": ("muss", "muss", "müssen"),
        "nl": ("moet", "moet", "moeten"),
        "it": ("devo", "deve", "dobbiamo", "devono"),
    },
    "want": {
        "de": ("will", "will", "wollen"),
        "nl": ("wil", "wil", "willen"),
        "it": ("voglio", "vuole", "vogliamo", "vogliono"),
    },
}
_AUX = {
    ("de", "have"): ("habe", "hat", "haben"),
    ("de", "be"): ("bin", "ist", "sind"),
    ("nl", "have"): ("heb", "heeft", "hebben"),
    ("nl", "be"): ("ben", "is", "zijn"),
    ("it", "have"): ("ho", "ha", "abbiamo", "hanno"),
    ("it", "be"): ("sono", "è", "siamo", "sono"),
}
_BE = {  # (language, mood) -> finite forms of the copula
    ("en", "present"): {"1s": "am", "3s": "is", "1p": "are", "3p": "are"},
    ("en", "past"): {"1s": "was", "3s": "was", "1p": "were", "3p": "were"},
    ("de", "present"): dict(zip(_SLOT, ("bin", "ist", "sind", "sind"), strict=True)),
    ("de", "past"): dict(zip(_SLOT, ("war", "war", "waren", "waren"), strict=True)),
    ("nl", "present"): dict(zip(_SLOT, ("ben", "is", "zijn", "zijn"), strict=True)),
    ("nl", "past"): dict(zip(_SLOT, ("was", "was", "waren", "waren"), strict=True)),
    ("it", "present"): dict(zip(_SLOT, ("sono", "è", "siamo", "sono"), strict=True)),
    ("it", "past"): dict(zip(_SLOT, ("ero", "era", "eravamo", "erano"), strict=True)),
}


@dataclass(frozen=True)
class _Fields:
    """A German or Dutch clause, split into topological fields."""

    finite: str
    middle: tuple[str, ...]
    prefix: str = ""  # separable; attached to a clause-final finite verb
    closing: str = ""  # participle or infinitive
    after: str = ""  # postfield: "als die katze"


@dataclass(frozen=True)
class Clause:
    """A proposition. Without `verb`: copula and `predicate` or, with neither, "there is"."""

    subject: NounPhrase | Pronoun
    mood: str  # present, past, can, must, want
    verb: Verb | None = None
    negated: bool = False
    adverb: Adverb | None = None
    adverb_in_front: bool = False
    object: NounPhrase | None = None
    recipient: NounPhrase | None = None
    companion: NounPhrase | None = None
    place: Place | None = None
    predicate: Adjective | None = None
    degree: str = ""  # "very" or "more"; "more" compares with `standard`
    standard: NounPhrase | None = None

    def main(self, lang: str) -> str:
        """A declarative clause; a fronted adverb causes inversion in German and Dutch."""
        front = self.adverb.text[lang] if self.adverb and self.adverb_in_front else ""
        if lang in ("en", "it"):
            return join(front, self._plain(lang))
        return join(front, self.inverted(lang)) if front else self._verb_second(lang)

    def inverted(self, lang: str) -> str:
        """The clause after a fronted constituent: the finite verb precedes the subject (de, nl)."""
        if lang in ("en", "it"):
            return self._plain(lang)
        f = self._fields(lang)
        subject = self.subject.text(lang)
        return join(f.finite, subject, *f.middle, f.prefix, f.closing, f.after)

    def question(self, lang: str) -> str:
        """A yes-no question."""
        return self._english(question=True) if lang == "en" else self.inverted(lang)

    def subordinate(self, lang: str, with_subject: bool = True) -> str:
        """The clause after a conjunction or, without its subject, after a relative pronoun."""
        if lang in ("en", "it"):
            return self._plain(lang, with_subject)
        f = self._fields(lang)
        subject = self.subject.text(lang) if with_subject else ""
        verbs = (
            (f.closing, f.prefix + f.finite) if lang == "de" else (f.prefix + f.finite, f.closing)
        )
        return join(subject, *f.middle, *verbs, f.after)

    def _verb_second(self, lang: str) -> str:
        f = self._fields(lang)
        subject = self.subject.text(lang)
        return join(subject, f.finite, *f.middle, f.prefix, f.closing, f.after)

    def _plain(self, lang: str, with_subject: bool = True) -> str:
        if lang == "en":
            return self._english(with_subject=with_subject)
        return self._italian(with_subject)

    @property
    def _is_motion(self) -> bool:
        return self.verb is not None and self.verb.frame == "motion"

    def _place(self, lang: str) -> str:
        if self.place is None:
            return ""
        return (self.place.to if self._is_motion else self.place.at)[lang]

    def _adverb(self, lang: str) -> str:
        """The adverb, unless it is fronted."""
        return self.adverb.text[lang] if self.adverb and not self.adverb_in_front else ""

    # English

    def _english(self, with_subject: bool = True, question: bool = False) -> str:
        mid, end = self._adverb("en"), ""
        if self.adverb and self.adverb.position == "end":
            mid, end = "", mid
        subject = self.subject.text("en") if with_subject else ""
        finite, rest = self._english_verbs(question)
        negation = "not" if self.negated else ""
        if self.negated and finite == "can":
            finite, negation = "cannot", ""
        objects = join(*(p.text("en") for p in (self.recipient, self.object) if p))
        companion = join("with", self.companion.text("en")) if self.companion else ""
        tail = (rest, objects, self._english_predicate(), companion, self._place("en"), end)
        if question:
            return join(finite, subject, negation, mid, *tail)
        return join(subject, mid, finite, negation, *tail)

    def _english_verbs(self, question: bool) -> tuple[str, str]:
        """The auxiliary or copula (empty where none is needed) and the rest of the verb."""
        third = self.subject.person == "3s"
        if self.verb is None:
            person = self.object.person if self.object else self.subject.person
            return _BE["en", self.mood][person], ""
        base, present, past = self.verb.en
        particle = self.verb.en_particle
        support = question or self.negated
        if self.mood in ("can", "must"):
            return self.mood, join(base, particle)
        if self.mood == "want":
            verb = join("to", base, particle)
            want = "wants" if third and not support else "want"
            do = ("does" if third else "do") if support else ""
            return do, join(want, verb)
        if support:
            do = "did" if self.mood == "past" else "does" if third else "do"
            return do, join(base, particle)
        form = past if self.mood == "past" else present if third else base
        return "", join(form, particle)

    def _english_predicate(self) -> str:
        if self.predicate is None:
            return ""
        if self.degree == "more" and self.standard:
            return join(self.predicate.comparative[0], "than", self.standard.text("en"))
        return join(self.degree, self.predicate.en)

    # German and Dutch

    def _fields(self, lang: str) -> _Fields:
        german = lang == "de"
        negation = ("nicht" if german else "niet") if self.negated else ""
        place, after = self._place(lang), ""
        predicate = ""
        if self.predicate:
            predicate = self.predicate.de if german else self.predicate.nl
            if self.degree == "very":
                predicate = join("sehr" if german else "erg", predicate)
            if self.degree == "more" and self.standard:
                predicate = self.predicate.comparative[1 if german else 2]
                after = join("als" if german else "dan", self.standard.text(lang))
        companion = ""
        if self.companion:
            companion = join("mit" if german else "met", self.companion.text(lang, "dat"))
        case = "dat" if self.verb and self.verb.frame == "dative" else "acc"
        middle = (
            self._adverb(lang),
            self.recipient.text(lang, "dat") if self.recipient else "",
            self.object.text(lang, case) if self.object else "",
            negation,
            companion,
            place,
            predicate,
        )
        finite, prefix, closing = self._germanic_verbs(lang)
        return _Fields(finite, middle, prefix, closing, after)

    def _germanic_verbs(self, lang: str) -> tuple[str, str, str]:
        person = self.subject.person
        if self.verb is None:
            if self.object is None:
                return _BE[lang, self.mood][person], "", ""
            finite = "gibt" if lang == "de" else _BE["nl", "present"][self.object.person]
            return finite, "", ""
        verb, slot = self.verb, _SLOT[person]
        forms, prefix = (verb.de, verb.de_prefix) if lang == "de" else (verb.nl, verb.nl_prefix)
        if self.mood == "present":
            return forms[slot], prefix, ""
        if self.mood == "past":
            aux = verb.de_aux if lang == "de" else verb.nl_aux
            participle = verb.de_participle if lang == "de" else verb.nl_participle
            return _AUX[lang, aux][slot], "", participle
        return _MODALS[self.mood][lang][slot], "", prefix + forms[2]

    # Italian

    def _italian(self, with_subject: bool) -> str:
        mid, end = self._adverb("it"), ""
        if self.adverb and self.adverb.position == "end":
            mid, end = "", mid
        finite, rest = self._italian_verbs()
        predicate = ""
        if self.predicate:
            degree = {"very": "molto", "more": "più", "": ""}[self.degree]
            predicate = join(degree, self.predicate.it[self.subject.it_form])
            if self.standard:
                predicate = join(predicate, self.standard.text("it", preposition="di"))
        return join(
            self.subject.text("it") if with_subject else "",
            "non" if self.negated else "",
            finite,
            mid,
            rest,
            self.object.text("it") if self.object else "",
            self.recipient.text("it", preposition="a") if self.recipient else "",
            predicate,
            join("con", self.companion.text("it")) if self.companion else "",
            self._place("it"),
            end,
        )

    def _italian_verbs(self) -> tuple[str, str]:
        slot = _IT_SLOT[self.subject.person]
        if self.verb is None:
            if self.object is None:
                return _BE["it", self.mood][self.subject.person], ""
            return "ci sono" if self.object.plural else "c'è", ""
        if self.mood == "present":
            return self.verb.it[slot], ""
        if self.mood == "past":
            participle = self.verb.it_participle
            if self.verb.it_aux == "be":
                participle = participle[:-1] + "oaie"[self.subject.it_form]
            return _AUX["it", self.verb.it_aux][slot], participle
        return _MODALS[self.mood]["it"][slot], self.verb.it_infinitive
