"""Verbs of the generated corpus, with every form that the grammar needs.

A bar marks a separable prefix: "an|rufen" gives "ruft ... an" in a main clause, and "anrufen" and
"anruft" as one word at the end of a clause.
"""

from dataclasses import dataclass

from .lexicon import rows


@dataclass(frozen=True)
class Verb:
    """A verb. Finite forms: English (base, 3sg, past); de and nl (1sg, 3sg, plural);
    Italian (1sg, 3sg, 1pl, 3pl). Auxiliaries are "have" or "be" (sein, zijn, essere)."""

    en: tuple[str, str, str]
    en_particle: str
    de: tuple[str, str, str]
    de_prefix: str
    de_participle: str
    de_aux: str
    nl: tuple[str, str, str]
    nl_prefix: str
    nl_participle: str
    nl_aux: str
    it: tuple[str, str, str, str]
    it_infinitive: str
    it_participle: str
    it_aux: str
    objects: frozenset[str]  # noun classes; empty for intransitive verbs
    frame: str  # object, dative, recipient, motion, activity, weather


# english base 3sg past, particle | german infinitive 1sg 3sg participle | dutch: same as german
# | italian infinitive 1sg 3sg 1pl 3pl participle | frame, object classes
# + marks a participle whose auxiliary is sein, zijn or essere.
VERBS = """
eat eats ate | essen esse isst gegessen | eten eet eet gegeten \
 | mangiare mangio mangia mangiamo mangiano mangiato | object f
drink drinks drank | trinken trinke trinkt getrunken | drinken drink drinkt gedronken \
 | bere bevo beve beviamo bevono bevuto | object d
read reads - | lesen lese liest gelesen | lezen lees leest gelezen \
 | leggere leggo legge leggiamo leggono letto | object r
write writes wrote | schreiben schreibe schreibt geschrieben \
 | schrijven schrijf schrijft geschreven \
 | scrivere scrivo scrive scriviamo scrivono scritto | object r
cook cooks cooked | kochen koche kocht gekocht | koken kook kookt gekookt \
 | cucinare cucino cucina cuciniamo cucinano cucinato | object w
buy buys bought | kaufen kaufe kauft gekauft | kopen koop koopt gekocht \
 | comprare compro compra compriamo comprano comprato | object t v f d a
sell sells sold | verkaufen verkaufe verkauft verkauft | verkopen verkoop verkoopt verkocht \
 | vendere vendo vende vendiamo vendono venduto | object t v f d a b
see sees saw | sehen sehe sieht gesehen | zien zie ziet gezien \
 | vedere vedo vede vediamo vedono visto | object p a t v b n
find finds found | finden finde findet gefunden | vinden vind vindt gevonden \
 | trovare trovo trova troviamo trovano trovato | object p a t v
look looks looked for | suchen suche sucht gesucht | zoeken zoek zoekt gezocht \
 | cercare cerco cerca cerchiamo cercano cercato | object p a t v
hug hugs hugged | umarmen umarme umarmt umarmt | omhelzen omhels omhelst omhelsd \
 | abbracciare abbraccio abbraccia abbracciamo abbracciano abbracciato | object p
call calls called | an|rufen rufe ruft angerufen | op|bellen bel belt opgebeld \
 | chiamare chiamo chiama chiamiamo chiamano chiamato | object p
invite invites invited | ein|laden lade lädt eingeladen | uit|nodigen nodig nodigt uitgenodigd \
 | invitare invito invita invitiamo invitano invitato | object p
greet greets greeted | begrüßen begrüße begrüßt begrüßt | begroeten begroet begroet begroet \
 | salutare saluto saluta salutiamo salutano salutato | object p
wake wakes woke up | auf|wecken wecke weckt aufgeweckt | wakker|maken maak maakt wakkergemaakt \
 | svegliare sveglio sveglia svegliamo svegliano svegliato | object p
help helps helped | helfen helfe hilft geholfen | helpen help helpt geholpen \
 | aiutare aiuto aiuta aiutiamo aiutano aiutato | dative p
thank thanks thanked | danken danke dankt gedankt | bedanken bedank bedankt bedankt \
 | ringraziare ringrazio ringrazia ringraziamo ringraziano ringraziato | dative p
follow follows followed | folgen folge folgt +gefolgt | volgen volg volgt gevolgd \
 | seguire seguo segue seguiamo seguono seguito | dative p a
recognize recognizes recognized | erkennen erkenne erkennt erkannt \
 | herkennen herken herkent herkend \
 | riconoscere riconosco riconosce riconosciamo riconoscono riconosciuto | object p a
protect protects protected | beschützen beschütze beschützt beschützt \
 | beschermen bescherm beschermt beschermd \
 | proteggere proteggo protegge proteggiamo proteggono protetto | object p a
admire admires admired | bewundern bewundere bewundert bewundert \
 | bewonderen bewonder bewondert bewonderd \
 | ammirare ammiro ammira ammiriamo ammirano ammirato | object p i b
paint paints painted | malen male malt gemalt | schilderen schilder schildert geschilderd \
 | dipingere dipingo dipinge dipingiamo dipingono dipinto | object a n i
draw draws drew | zeichnen zeichne zeichnet gezeichnet | tekenen teken tekent getekend \
 | disegnare disegno disegna disegniamo disegnano disegnato | object a n p v
wash washes washed | waschen wasche wäscht gewaschen | wassen was wast gewassen \
 | lavare lavo lava laviamo lavano lavato | object c v a
clean cleans cleaned | putzen putze putzt geputzt | poetsen poets poetst gepoetst \
 | pulire pulisco pulisce puliamo puliscono pulito | object g v
open opens opened | öffnen öffne öffnet geöffnet | openen open opent geopend \
 | aprire apro apre apriamo aprono aperto | object o
close closes closed | schließen schließe schließt geschlossen | sluiten sluit sluit gesloten \
 | chiudere chiudo chiude chiudiamo chiudono chiuso | object o
carry carries carried | tragen trage trägt getragen | dragen draag draagt gedragen \
 | portare porto porta portiamo portano portato | object t
repair repairs repaired | reparieren repariere repariert repariert \
 | repareren repareer repareert gerepareerd \
 | riparare riparo ripara ripariamo riparano riparato | object v l b
break breaks broke | zerbrechen zerbreche zerbricht zerbrochen | breken breek breekt gebroken \
 | rompere rompo rompe rompiamo rompono rotto | object g
lose loses lost | verlieren verliere verliert verloren | verliezen verlies verliest verloren \
 | perdere perdo perde perdiamo perdono perso | object t
forget forgets forgot | vergessen vergesse vergisst vergessen | vergeten vergeet vergeet +vergeten \
 | dimenticare dimentico dimentica dimentichiamo dimenticano dimenticato | object t q
take takes took | nehmen nehme nimmt genommen | nemen neem neemt genomen \
 | prendere prendo prende prendiamo prendono preso | object t
hide hides hid | verstecken verstecke versteckt versteckt | verstoppen verstop verstopt verstopt \
 | nascondere nascondo nasconde nascondiamo nascondono nascosto | object t
steal steals stole | stehlen stehle stiehlt gestohlen | stelen steel steelt gestolen \
 | rubare rubo ruba rubiamo rubano rubato | object t v a
choose chooses chose | aus|suchen suche sucht ausgesucht | uit|kiezen kies kiest uitgekozen \
 | scegliere scelgo sceglie scegliamo scelgono scelto | object t f s
wear wears wore | tragen trage trägt getragen | dragen draag draagt gedragen \
 | indossare indosso indossa indossiamo indossano indossato | object c
sing sings sang | singen singe singt gesungen | zingen zing zingt gezongen \
 | cantare canto canta cantiamo cantano cantato | object y
hear hears heard | hören höre hört gehört | horen hoor hoort gehoord \
 | sentire sento sente sentiamo sentono sentito | object p a s
build builds built | bauen baue baut gebaut | bouwen bouw bouwt gebouwd \
 | costruire costruisco costruisce costruiamo costruiscono costruito | object b v
throw throws threw away | weg|werfen werfe wirft weggeworfen | weg|gooien gooi gooit weggegooid \
 | buttare butto butta buttiamo buttano buttato | object t f
prepare prepares prepared | vor|bereiten bereite bereitet vorbereitet \
 | voor|bereiden bereid bereidt voorbereid \
 | preparare preparo prepara prepariamo preparano preparato | object f
turn turns turned on | ein|schalten schalte schaltet eingeschaltet | aan|zetten zet zet aangezet \
 | accendere accendo accende accendiamo accendono acceso | object l
turn turns turned off | aus|schalten schalte schaltet ausgeschaltet | uit|zetten zet zet uitgezet \
 | spegnere spengo spegne spegniamo spengono spento | object l
feed feeds fed | füttern füttere füttert gefüttert | voeren voer voert gevoerd \
 | nutrire nutro nutre nutriamo nutrono nutrito | object a
understand understands understood | verstehen verstehe versteht verstanden \
 | begrijpen begrijp begrijpt begrepen \
 | capire capisco capisce capiamo capiscono capito | object q s
learn learns learned | lernen lerne lernt gelernt | leren leer leert geleerd \
 | imparare imparo impara impariamo imparano imparato | object q
cut cuts - | schneiden schneide schneidet geschnitten | snijden snijd snijdt gesneden \
 | tagliare taglio taglia tagliamo tagliano tagliato | object e
order orders ordered | bestellen bestelle bestellt bestellt | bestellen bestel bestelt besteld \
 | ordinare ordino ordina ordiniamo ordinano ordinato | object f d t
taste tastes tasted | probieren probiere probiert probiert | proeven proef proeft geproefd \
 | assaggiare assaggio assaggia assaggiamo assaggiano assaggiato | object f d
touch touches touched | berühren berühre berührt berührt | aan|raken raak raakt aangeraakt \
 | toccare tocco tocca tocchiamo toccano toccato | object t a b
translate translates translated | übersetzen übersetze übersetzt übersetzt \
 | vertalen vertaal vertaalt vertaald \
 | tradurre traduco traduce traduciamo traducono tradotto | object r
burn burns burned | verbrennen verbrenne verbrennt verbrannt \
 | verbranden verbrand verbrandt verbrand \
 | bruciare brucio brucia bruciamo bruciano bruciato | object r
fill fills filled | füllen fülle füllt gefüllt | vullen vul vult gevuld \
 | riempire riempio riempie riempiamo riempiono riempito | object h
plant plants planted | pflanzen pflanze pflanzt gepflanzt | planten plant plant geplant \
 | piantare pianto pianta piantiamo piantano piantato | object n
give gives gave | geben gebe gibt gegeben | geven geef geeft gegeven \
 | dare do dà diamo danno dato | recipient t f
send sends sent | schicken schicke schickt geschickt | sturen stuur stuurt gestuurd \
 | mandare mando manda mandiamo mandano mandato | recipient t r
bring brings brought | bringen bringe bringt gebracht | brengen breng brengt gebracht \
 | portare porto porta portiamo portano portato | recipient t f d
sell sells sold | verkaufen verkaufe verkauft verkauft | verkopen verkoop verkoopt verkocht \
 | vendere vendo vende vendiamo vendono venduto | recipient t v
go goes went | gehen gehe geht +gegangen | gaan ga gaat +gegaan \
 | andare vado va andiamo vanno +andato | motion
run runs ran | rennen renne rennt +gerannt | rennen ren rent +gerend \
 | correre corro corre corriamo corrono +corso | motion
return returns returned | zurück|kehren kehre kehrt +zurückgekehrt | terug|keren keer keert \
 +teruggekeerd | tornare torno torna torniamo tornano +tornato | motion
come comes came | kommen komme kommt +gekommen | komen kom komt +gekomen \
 | venire vengo viene veniamo vengono +venuto | motion
sleep sleeps slept | schlafen schlafe schläft geschlafen | slapen slaap slaapt geslapen \
 | dormire dormo dorme dormiamo dormono dormito | activity
work works worked | arbeiten arbeite arbeitet gearbeitet | werken werk werkt gewerkt \
 | lavorare lavoro lavora lavoriamo lavorano lavorato | activity
laugh laughs laughed | lachen lache lacht gelacht | lachen lach lacht gelachen \
 | ridere rido ride ridiamo ridono riso | activity
cry cries cried | weinen weine weint geweint | huilen huil huilt gehuild \
 | piangere piango piange piangiamo piangono pianto | activity
sing sings sang | singen singe singt gesungen | zingen zing zingt gezongen \
 | cantare canto canta cantiamo cantano cantato | activity
dance dances danced | tanzen tanze tanzt getanzt | dansen dans danst gedanst \
 | ballare ballo balla balliamo ballano ballato | activity
wait waits waited | warten warte wartet gewartet | wachten wacht wacht gewacht \
 | aspettare aspetto aspetta aspettiamo aspettano aspettato | activity
play plays played | spielen spiele spielt gespielt | spelen speel speelt gespeeld \
 | giocare gioco gioca giochiamo giocano giocato | activity
talk talks talked | reden rede redet geredet | praten praat praat gepraat \
 | parlare parlo parla parliamo parlano parlato | activity
study studies studied | lernen lerne lernt gelernt | studeren studeer studeert gestudeerd \
 | studiare studio studia studiamo studiano studiato | activity
dream dreams dreamed | träumen träume träumt geträumt | dromen droom droomt gedroomd \
 | sognare sogno sogna sogniamo sognano sognato | activity
rain rains rained | regnen regne regnet geregnet | regenen regen regent geregend \
 | piovere piovo piove pioviamo piovono piovuto | weather
snow snows snowed | schneien schneie schneit geschneit | sneeuwen sneeuw sneeuwt gesneeuwd \
 | nevicare nevico nevica nevichiamo nevicano nevicato | weather
"""


def _germanic(cell: str) -> tuple[tuple[str, str, str], str, str, str]:
    """Finite forms, prefix, participle and auxiliary key of a German or Dutch cell."""
    infinitive, first, third, participle = cell.split()
    prefix, _, stem = infinitive.rpartition("|")
    aux = "be" if participle.startswith("+") else "have"
    return (first, third, stem), prefix, participle.lstrip("+"), aux


def _verb(cells: list[str]) -> Verb:
    base, third, past, *particle = cells[0].split()
    de, de_prefix, de_participle, de_aux = _germanic(cells[1])
    nl, nl_prefix, nl_participle, nl_aux = _germanic(cells[2])
    infinitive, *it, it_participle = cells[3].split()
    frame, *objects = cells[4].split()
    return Verb(
        en=(base, third, past),
        en_particle=" ".join(particle),
        de=de,
        de_prefix=de_prefix,
        de_participle=de_participle,
        de_aux=de_aux,
        nl=nl,
        nl_prefix=nl_prefix,
        nl_participle=nl_participle,
        nl_aux=nl_aux,
        it=tuple(it),
        it_infinitive=infinitive,
        it_participle=it_participle.lstrip("+"),
        it_aux="be" if it_participle.startswith("+") else "have",
        objects=frozenset(objects),
        frame=frame,
    )


VERB_LIST = [_verb(cells) for cells in rows(VERBS)]
